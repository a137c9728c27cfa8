//! A file with everything that a port says, with timestamps, and rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jumpstarter_driver_core::{ByteSize, Error, Result, ResultExt, blocking, rfc3339};

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
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            // A line that was cut short ends here.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        let file = BufWriter::new(file);
        Ok(Self { file, path, size, max_size, files, at_line_start: true })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                if self.max_size > 0 && self.size >= self.max_size {
                    self.rotate()?;
                }
                let stamp = format!("{} ", rfc3339(SystemTime::now()));
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
        // Those up to the first gap move.
        let full = (1..self.files).take_while(|number| numbered(&self.path, *number).exists());
        for number in (1..=full.count() as u32).rev() {
            std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_line_that_was_cut_short_is_ended_and_any_number_of_files_is_rotated_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, "2024-02-29T12:30:00.123Z cut sho").unwrap();
        let mut file = LogFile::open(path.clone(), 20, u32::MAX).unwrap();
        file.write(b"next\n").unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("sho"));
        let first = std::fs::read_to_string(numbered(&path, 1)).unwrap();
        assert_eq!(first, "2024-02-29T12:30:00.123Z cut sho\n");
        file.write(b"third\n").unwrap();
        assert!(std::fs::read_to_string(numbered(&path, 1)).unwrap().ends_with("Z next\n"));
        assert!(numbered(&path, 2).exists() && !numbered(&path, 3).exists());
    }
}
