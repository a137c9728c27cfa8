//! The meaning of a plain YAML scalar: the core schema of YAML 1.2
//! (<https://yaml.org/spec/1.2.2/#103-core-schema>).

use serde_json::Number;

use super::value::Value;

/// Reads an unquoted scalar.
///
/// # Errors
/// The fault and its remedy: a number that YAML 1.1 and 1.2 read differently, or that is not
/// finite.
pub(super) fn resolve(text: &str) -> Result<Value, (String, String)> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err((
            format!("`{text}` is not a finite number"),
            "put it in quotes if it is text".to_owned(),
        ));
    }
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if let Some(octal) = text.strip_prefix("0o").filter(|rest| digits(rest, 8)) {
        return based(text, octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x").filter(|rest| digits(rest, 16)) {
        return based(text, hex, 16);
    }
    if digits(unsigned, 10) {
        let trimmed = unsigned.trim_start_matches('0');
        if unsigned.len() > 1 && trimmed.len() < unsigned.len() {
            let plain = if trimmed.is_empty() { "0" } else { trimmed };
            let hint =
                format!("write `{plain}`, `0o{plain}` for octal, or \"{text}\" in quotes for text");
            return Err((format!("`{text}` is octal in YAML 1.1 and decimal in YAML 1.2"), hint));
        }
        let signed = text.strip_prefix('+').unwrap_or(text);
        let number = signed
            .parse::<u64>()
            .map(Number::from)
            .or_else(|_| signed.parse::<i64>().map(Number::from));
        return number.map_or_else(|_| float(signed), |number| Ok(Value::Number(number)));
    }
    if is_float(unsigned) {
        return float(text);
    }
    Ok(Value::Text(text.to_owned()))
}

fn based(text: &str, digits: &str, radix: u32) -> Result<Value, (String, String)> {
    u64::from_str_radix(digits, radix).map(|number| Value::Number(number.into())).map_err(|_| {
        (format!("`{text}` is too large for a number"), "put it in quotes if it is text".to_owned())
    })
}

fn float(text: &str) -> Result<Value, (String, String)> {
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| {
        (format!("`{text}` is too large for a number"), "put it in quotes if it is text".to_owned())
    })
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
        }
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: serde_json::Value) {
        assert_eq!(resolve(text).unwrap().to_json(), expected, "{text}");
    }

    #[test]
    fn core_schema() {
        check("~", serde_json::Value::Null);
        check("True", true.into());
        check("0x1F", 31.into());
        check("0o17", 15.into());
        check("-12", (-12).into());
        check("+3", 3.into());
        check("18446744073709551615", u64::MAX.into());
        check("1e3", 1000.0.into());
        check(".5", 0.5.into());
        for text in [
            "yes",
            "on",
            "1.2.3",
            "12:30",
            "e5",
            ".",
            "1e",
            "512M",
            "inf",
            "nan",
            "2026-01-01",
            "0x",
            "-",
        ] {
            check(text, text.into());
        }
        for text in ["0755", "-007", ".inf", "-.INF", ".nan", "1e999", "0xFFFFFFFFFFFFFFFFFF"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }
}
