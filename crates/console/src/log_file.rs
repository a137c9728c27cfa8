//! A file with everything that a port says, with timestamps, and rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jumpstarter_driver_core::{ByteSize, Error, Result, ResultExt, blocking};

use crate::log::{ConsoleLog, mark};
use crate::reader::ReadFrom;

impl ConsoleLog {
    /// Appends everything that the device says, from the oldest byte that is kept, to a file, as
    /// long as this log goes on. Each line begins with the time (UTC) at which its first byte came.
    ///
    /// A file of `max_size` (0 is no limit) is renamed to `.1`, `.1` to `.2` and so on; so many
    /// `older_files` are kept.
    ///
    /// # Errors
    /// Those of opening the file. Later ones end the file, and are logged.
    pub async fn write_to_file(
        &self,
        path: PathBuf,
        max_size: ByteSize,
        older_files: u32,
    ) -> Result<()> {
        let doing = format!("opening the log file {}", path.display());
        let max_size = max_size.as_bytes();
        let file = blocking(move || Ok(LogFile::open(path, max_size, older_files)?)).await;
        let mut file = file.context(doing)?;
        let mut reader = self.read(ReadFrom::Start);
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = reader.next().await {
                let written = blocking(move || {
                    if chunk.skipped > 0 {
                        file.write(mark(&format!("{} bytes are lost", chunk.skipped)).as_bytes())?;
                    }
                    file.write(&chunk.bytes)?;
                    Ok(file)
                });
                match written.await {
                    Ok(same) => file = same,
                    Err(error) => {
                        // The console goes on.
                        let error: Error = error.context("writing a port's log file");
                        tracing::error!("{}", error.report());
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

struct LogFile {
    file: BufWriter<File>,
    path: PathBuf,
    size: u64,
    /// 0 is no limit.
    max_size: u64,
    /// How many older files are kept: `.1` is the newest.
    files: u32,
    at_line_start: bool,
}

impl LogFile {
    fn open(path: PathBuf, max_size: u64, files: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        let file = BufWriter::new(file);
        Ok(Self { file, path, size, max_size, files, at_line_start: true })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                if self.max_size > 0 && self.size >= self.max_size {
                    self.rotate()?;
                }
                let stamp = timestamp(SystemTime::now());
                self.file.write_all(stamp.as_bytes())?;
                self.size += stamp.len() as u64;
            }
            self.file.write_all(line)?;
            self.size += line.len() as u64;
            self.at_line_start = line.ends_with(b"\n");
        }
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        for number in (1..self.files).rev() {
            let (from, to) = (numbered(&self.path, number), numbered(&self.path, number + 1));
            if from.exists() {
                std::fs::rename(from, to)?;
            }
        }
        match self.files {
            0 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, numbered(&self.path, 1))?,
        }
        let same = Self::open(self.path.clone(), self.max_size, self.files)?;
        (self.file, self.size) = (same.file, same.size);
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// `2024-02-29T12:30:00.123Z `
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years of 365.2425 days that begin in March, so that the leap day is the last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z "),
            (951_827_696, "2000-02-29T12:34:56.000Z "),
            (1_709_251_199, "2024-02-29T23:59:59.000Z "),
            (4_102_444_800, "2100-01-01T00:00:00.000Z "),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_full_file_is_rotated_at_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let mut file = LogFile::open(path.clone(), 60, 2).unwrap();
        for number in 0..8 {
            // A line may come in pieces.
            file.write(format!("line {number}").as_bytes()).unwrap();
            file.write(b" ends\r\n").unwrap();
        }
        let lines = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap();
            let lines = text.lines().map(|line| line.split_once("Z ").unwrap().1.to_owned());
            lines.collect::<Vec<_>>()
        };
        assert_eq!(lines(&path), ["line 6 ends", "line 7 ends"]);
        assert_eq!(lines(&numbered(&path, 1)), ["line 4 ends", "line 5 ends"]);
        assert_eq!(lines(&numbered(&path, 2)), ["line 2 ends", "line 3 ends"]);
        assert!(!numbered(&path, 3).exists());
    }
}
