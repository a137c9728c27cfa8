//! The environment of a child: this process's variables, without Jumpstarter's secrets.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Starts of the names of Jumpstarter's variables.
const PREFIXES: [&str; 2] = ["JMP_", "JUMPSTARTER_"];
/// A variable of Jumpstarter with one of these words in its name carries a secret, or may lead to
/// one.
const SECRET_WORDS: [&str; 5] = ["PASSPHRASE", "PASSWORD", "SECRET", "TOKEN", "CREDENTIALS"];

/// Whether a variable carries a secret of this process, which no child inherits.
pub(crate) fn is_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.split('_').any(|word| SECRET_WORDS.contains(&word)))
}

/// The names of the variables that no child inherits.
pub(crate) fn secrets() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| is_secret(name))
}

/// The variables of this process whose names are among `names`; one that ends with `*` stands for
/// all that begin so.
pub(crate) fn among(names: &[&str]) -> Vec<(OsString, OsString)> {
    let is_meant = |name: &OsStr| {
        names.iter().any(|meant| match meant.strip_suffix('*') {
            Some(start) => name.as_bytes().starts_with(start.as_bytes()),
            None => name == OsStr::new(meant),
        })
    };
    std::env::vars_os().filter(|(name, _)| is_meant(name) && !is_secret(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_jumpstarters_own_with_a_telling_word() {
        for secret in [
            "JMP_GRPC_PASSPHRASE",
            "JMP_TOKEN",
            "JMP_OIDC_CLIENT_SECRET",
            "JUMPSTARTER_TOKEN",
            "jmp_password",
        ] {
            assert!(is_secret(secret.as_ref()), "{secret}");
        }
        for plain in
            ["JMP_DRIVERS_ALLOW", "JUMPSTARTER_HOST", "JMP_GRPC_CA", "VAULT_TOKEN", "JMP_TOKENIZER"]
        {
            assert!(!is_secret(plain.as_ref()), "{plain}");
        }
    }
}
