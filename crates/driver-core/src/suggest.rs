//! "did you mean": the nearest of the names that exist, and lists of them.

/// The most names in a list.
const LISTED: usize = 40;

/// The nearest of `candidates` to `name`, if one is near enough.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * limit)
        .map(|candidate| {
            (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The one of `candidates` that `name` means: the one that `synonyms` (pairs of a name and its
/// meaning) gives, else the one that differs only in case, `_` and `-`, else the nearest.
pub fn meant<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    synonyms: &[(&str, &str)],
) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(name);
    let by_synonym = synonyms
        .iter()
        .filter(|(written, _)| plain(written) == wanted)
        .find_map(|(_, field)| candidates.clone().into_iter().find(|candidate| candidate == field));
    let by_style = || candidates.clone().into_iter().find(|candidate| plain(candidate) == wanted);
    by_synonym.or_else(by_style).or_else(|| nearest(name, candidates.clone()))
}

/// "`a`, `b` and `c`", or "none" for no names; of many names the first ones and the number of the
/// rest.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut listed: Vec<String> =
        names.by_ref().take(LISTED).map(|name| format!("`{name}`")).collect();
    match names.count() {
        0 => {}
        more => listed.push(format!("{more} more")),
    }
    match listed.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// "did you mean `x`?" if one is near, else "there are `a` and `b`".
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, candidates.clone()) {
        Some(near) => format!("did you mean `{near}`? There are {}", list(candidates)),
        None => format!("there are {}", list(candidates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        assert_eq!(nearest("memm", ["mem", "smp"]), Some("mem"));
        assert_eq!(nearest("completely", ["mem", "smp"]), None);
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }

    #[test]
    fn long_lists_end() {
        let many = list(std::iter::repeat_n("x", 10_000));
        assert!(many.ends_with("`x` and 9960 more") && many.len() < 400, "{many}");
    }

    #[test]
    fn synonyms_come_before_what_is_near() {
        let synonyms = [("memory", "mem"), ("cpus", "smp"), ("disc", "disk")];
        let fields = ["mem", "smp", "cpu", "disk_size"];
        assert_eq!(nearest("memory", fields), None);
        assert_eq!(meant("memory", fields, &synonyms), Some("mem"));
        assert_eq!(nearest("cpus", fields), Some("cpu"));
        assert_eq!(meant("CPUs", fields, &synonyms), Some("smp"));
        // A synonym whose field does not exist has no effect.
        assert_eq!(meant("disc", fields, &synonyms), None);
        let several = [("host", "hostaddr"), ("host", "hostname")];
        assert_eq!(meant("host", ["hostname"], &several), Some("hostname"));
        assert_eq!(meant("diskSize", fields, &synonyms), Some("disk_size"));
        assert_eq!(meant("memm", fields, &synonyms), Some("mem"));
    }
}
