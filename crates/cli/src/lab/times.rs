//! Durations and times, as upstream's commands take them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jumpstarter_driver_core::day_of_date;

const EXAMPLES: &str = "expected seconds, or a time such as 30m, 3h30m, 1d3h, 01:30:00 or PT1H";

/// Parses seconds, `1d3h40m`, `HH:MM:SS`, `2 days, 01:30:00`, or a duration of ISO 8601.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || EXAMPLES.to_owned();
    let trimmed = text.trim();
    let seconds = if let Some(iso) = trimmed.strip_prefix(['P', 'p']) {
        iso_8601(iso)
    } else if let Some((days, clock)) = trimmed.split_once(',') {
        let days = days.trim().trim_end_matches("days").trim_end_matches("day").trim();
        days.parse::<f64>().ok().zip(clock_time(clock.trim())).map(|(d, rest)| d * DAY + rest)
    } else if trimmed.contains(':') {
        clock_time(trimmed)
    } else {
        parts(trimmed, false)
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| *duration <= Duration::from_secs(3_155_760_000)).ok_or_else(wrong)
}

const DAY: f64 = 86_400.0;

/// `[HH:]MM:SS`.
fn clock_time(text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    let fields: Vec<&str> = text.split(':').collect();
    if !(2..=3).contains(&fields.len()) {
        return None;
    }
    for field in fields {
        seconds = seconds * 60.0 + field.parse::<f64>().ok()?;
    }
    Some(seconds)
}

/// A sequence of numbers with their units; a number alone is in seconds.
fn parts(text: &str, is_iso_time: bool) -> Option<f64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = rest[..unit_end].to_ascii_lowercase();
        rest = rest[unit_end..].trim_start();
        seconds += number
            * match unit.as_str() {
                "w" => 7.0 * DAY,
                "d" | "day" | "days" => DAY,
                "h" | "hr" | "hour" | "hours" => 3600.0,
                "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
                "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
                "ms" if !is_iso_time => 0.001,
                "" if !is_iso_time && end == text.trim().len() => 1.0,
                _ => return None,
            };
    }
    Some(seconds)
}

/// What follows the `P`.
fn iso_8601(text: &str) -> Option<f64> {
    let upper = text.to_ascii_uppercase();
    let (days, time) = match upper.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (upper.as_str(), None),
    };
    let date = match days {
        "" if time.is_some() => 0.0,
        days if days.ends_with(['D', 'W']) => parts(days, true)?,
        _ => return None,
    };
    Some(date + time.map_or(Some(0.0), |time| parts(time, true))?)
}

/// Parses a time of ISO 8601 in UTC, such as `2026-12-24T12:00:00Z`.
pub(crate) fn time(text: &str) -> Result<SystemTime, String> {
    let wrong = || "expected a time in UTC, such as 2026-12-24T12:00:00Z".to_owned();
    let text = text.trim().trim_end_matches(['Z', 'z']).trim_end_matches("+00:00");
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let fields: Vec<u64> =
        date.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let [year, month, day] = fields[..] else { return Err(wrong()) };
    let seconds = clock_time(clock).filter(|seconds| (0.0..DAY).contains(seconds));
    let days = day_of_date(year, month, day).ok_or_else(wrong)?;
    let seconds = Duration::from_secs_f64(seconds.ok_or_else(wrong)?);
    Ok(UNIX_EPOCH + Duration::from_secs(days * 86_400) + seconds)
}

/// Writes a duration for people: its two largest units.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let parts = units.into_iter().filter_map(|(size, unit)| {
        let count = rest / size;
        rest %= size;
        (count > 0).then(|| format!("{count}{unit}"))
    });
    let text: String = parts.take(2).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a time in UTC, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let text = jumpstarter_driver_core::rfc3339(time);
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("10", 10),
            ("10s", 10),
            ("30m", 1800),
            ("3h30m", 12_600),
            ("1d3h40m", 99_600),
            ("1d", 86_400),
            ("01:30:00", 5400),
            ("30:00", 1800),
            ("2 days, 01:30:00", 178_200),
            ("PT1H", 3600),
            ("P1DT1H30M", 91_800),
            ("P1D", 86_400),
            ("1 min", 60),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "x", "-1", "1x", "1:2:3:4", "PT", "P", "P1H", "1h30", "9999999999d", "nan"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_written_and_read_in_utc() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, text) in [(0, "1970-01-01T00:00:00Z"), (951_827_696, "2000-02-29T12:34:56Z")]
        {
            assert_eq!(rfc3339(at(seconds)), text);
            assert_eq!(time(text), Ok(at(seconds)));
        }
        assert!(time("tomorrow").is_err() && time("2026-13-01").is_err());
        assert!(time("0000-01-01").is_err());
        assert_eq!(short(Duration::from_secs(93_784)), "1d2h");
        assert_eq!(short(Duration::from_secs(59)), "59s");
    }
}
