//! Two versions of this crate in one program are an error of Cargo, which says so.

use std::fs;
use std::path::Path;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn two_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let here = Path::new(HERE).display();
    write(
        "Cargo.toml",
        &format!(
            "[package]\nname = \"acme-jmp\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             jumpstarter-driver-core.path = \"{here}\"\n\
             other = {{ package = \"jumpstarter-driver-core\", path = \"other\" }}\n"
        ),
    );
    write("src/lib.rs", "");
    // What counts of another version is what its manifest says.
    let other = fs::read_to_string(Path::new(HERE).join("Cargo.toml")).unwrap();
    let links = other.lines().find(|line| line.starts_with("links = ")).unwrap();
    write(
        "other/Cargo.toml",
        &format!("[package]\nname = \"jumpstarter-driver-core\"\nversion = \"99.0.0\"\n{links}\n"),
    );
    write("other/build.rs", "fn main() {}");
    write("other/src/lib.rs", "");
    // The versions that this build has, so that nothing is looked up.
    fs::copy(Path::new(HERE).join("../../Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();

    #[expect(clippy::disallowed_methods, reason = "Cargo itself is what is tested")]
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&cargo.stderr);
    assert!(!cargo.status.success(), "two versions were linked");
    assert!(
        said.contains("jumpstarter-driver-core") && said.contains("links"),
        "the reason is another one: {said}"
    );
}
