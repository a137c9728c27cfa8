//! The name of a new driver, and the names that are made of it.

use std::str::FromStr;

use jumpstarter_driver_core::Registry;

/// Names of crates, types or modules that already have a meaning in Rust or Jumpstarter.
const TAKEN: &[&str] = &[
    "alloc",
    "as",
    "async",
    "await",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tokio",
    "trait",
    "true",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
    "abstract",
    "become",
    "box",
    "do",
    "final",
    "gen",
    "macro",
    "override",
    "priv",
    "proc-macro",
    "try",
    "typeof",
    "unsized",
    "virtual",
    "yield",
    "build",
    "deps",
    "examples",
    "incremental",
    "channel",
    "child",
    "device",
    "driver",
    "driver-config",
    "error",
    "flasher",
    "interfaces",
    "network",
    "option",
    "power",
    "result",
    "secret",
    "serial",
    "some",
    "string",
    "vec",
    "send",
    "sync",
    "ok",
    "err",
    "none",
    "open-context",
    "host-path",
    "image-source",
    "image-sink",
    "mutex",
    "jumpstarter",
];

/// A name for a crate: lower-case letters, digits and single hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !name.split('-').all(is_word) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err("a name has lower-case letters, digits and single hyphens, and begins \
                        with a letter, such as acme-relay"
                .to_owned());
        }
        if name.len() > 64 {
            return Err("a name has at most 64 characters".to_owned());
        }
        let is_ours = TAKEN.contains(&name) || name.starts_with("jumpstarter-");
        if is_ours || Registry::linked().find(name).is_ok() {
            return Err("that name is taken; put your own in front, such as acme-relay".to_owned());
        }
        Ok(Self(name.to_owned()))
    }
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Replaces `acme-lamp`, in all its forms, by the name in a template.
    pub(super) fn fill_in(&self, template: &str) -> String {
        let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
        let camel: String = self.0.split('-').map(upper).collect();
        template
            .replace("acme-lamp", &self.0)
            .replace("acme_lamp", &self.0.replace('-', "_"))
            .replace("AcmeLamp", &camel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates_pass_and_others_say_why() {
        for name in ["acme-relay", "a", "x2-y3", "acme-lamp", "powers"] {
            assert_eq!(name.parse(), Ok(Name(name.to_owned())));
        }
        for name in ["", "Acme", "-a", "a-", "a--b", "2a", "a_b", "ä", "a/b", "..", "a b"] {
            assert!(name.parse::<Name>().unwrap_err().starts_with("a name has"), "{name}");
        }
        for name in ["fn", "jumpstarter", "jumpstarter-x", "qemu", "mock-power", "driver"] {
            assert!(name.parse::<Name>().unwrap_err().starts_with("that name is taken"), "{name}");
        }
        assert!("a".repeat(65).parse::<Name>().is_err());
    }

    #[test]
    fn a_name_is_filled_in_in_every_spelling() {
        let name: Name = "acme-relay-2".parse().unwrap_or_else(|error| panic!("{error}"));
        let text = name.fill_in("acme-lamp acme_lamp::AcmeLampConfig");
        assert_eq!(text, "acme-relay-2 acme_relay_2::AcmeRelay2Config");
    }
}
