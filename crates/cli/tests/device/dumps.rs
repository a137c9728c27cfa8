//! Where images come from and go to at a shell: whatever other programs can read and write.

use jumpstarter_supervise::Command;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::lab::{Bench, clean};
use crate::terminal::J;

const FILE: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  power: {type: mock-power}
  flasher: {type: mock-flasher}
  impatient: {type: file-flasher, config: {path: none.img, stall_timeout: 500ms}}
  disk: {type: file-flasher, config: {path: disk.img}}
";

async fn bench() -> Bench {
    let bench = Bench::of(FILE).await;
    std::fs::write(bench.lab.path("os.img"), "an image").unwrap();
    assert!(!bench.j(&["flasher", "flash", "os.img"]).await.contains("error"));
    bench
}

/// Runs a script in which `$j` is the program, and returns what it printed and how it ended.
async fn script(bench: &Bench, script: &str) -> String {
    let command = clean(Command::new("bash")).args(["-c", script]).env("j", J);
    bench.run(command.env("JUMPSTARTER_HOST", &bench.host).current_dir(bench.lab.folder())).await
}

#[tokio::test]
async fn a_closed_standard_output_is_no_success() {
    let bench = bench().await;
    for words in ["flasher dump -", "power read", "power read --output json"] {
        let said = script(&bench, &format!("$j {words} >&-")).await;
        assert!(said.contains("standard output is closed"), "{words}: {said}");
        assert!(said.contains("exit code"), "{words}: {said}");
    }
    // Nothing is lost where nothing is printed.
    assert!(!script(&bench, "$j power on >&- <&-").await.contains("error"));
    assert!(!script(&bench, "$j flasher dump - > /dev/null").await.contains("error"));
    assert!(!script(&bench, "$j flasher dump - 1<> /dev/null").await.contains("error"));
}

#[tokio::test]
async fn pipes_and_devices_are_written_to() {
    let bench = bench().await;
    let said = script(
        &bench,
        "mkfifo pipe; cat pipe > read & $j flasher dump pipe 2> /dev/null && wait && cat read; echo
         $j flasher dump /dev/stdout 2> /dev/null | cat; echo
         $j flasher dump /dev/null 2> /dev/null && echo nothing
         { echo before; $j flasher dump /dev/stdout 2> /dev/null; echo after; } > file; cat file
         { echo before; $j flasher dump /dev/fd/1 2> /dev/null; echo after; } >> file; cat file",
    )
    .await;
    let once = "before\nan imageafter\n";
    assert_eq!(said, format!("an image\nan image\nnothing\n{once}{once}{once}"));
}

#[tokio::test]
async fn a_pipe_is_awaited_and_interrupted() {
    let bench = bench().await;
    let said = script(
        &bench,
        "mkfifo pipe; timeout -s INT 1 $j flasher dump pipe; echo $?; test -p pipe && echo pipe",
    )
    .await;
    assert!(said.ends_with("130\npipe\n") || said.contains("124\npipe\n"), "{said}");
    let said = script(&bench, "timeout 50 $j impatient flash pipe").await;
    assert!(said.contains("delivered nothing for 500ms"), "{said}");
    let said =
        script(&bench, "(sleep 0.1; cat os.img > pipe) & $j disk flash pipe && cat disk.img").await;
    assert!(said.contains("an image"), "{said}");
}

#[tokio::test]
async fn names_that_are_no_text() {
    let bench = bench().await;
    let said = script(
        &bench,
        r"name=$'a\xff=b,c'; cp os.img $name
        $j flasher flash $name -t one && $j flasher flash -t two:$name && $j flasher dump -t two $name.back &&
        cmp os.img $name.back && $j flasher dump $name.json --output json && ls *.json | od -An -c",
    )
    .await;
    assert!(!said.contains("error") && !said.contains("exit code"), "{said}");
    assert!(said.contains("377"), "{said}");
}

#[tokio::test]
async fn files_that_may_not_grow_fail_one_flash_and_not_the_exporter() {
    let bench = bench().await;
    std::fs::write(bench.lab.path("large.img"), vec![7; 1 << 20]).unwrap();
    let exporter = Pid::from_raw(i32::try_from(bench.exporter.pid()).unwrap());
    prlimit(exporter, Resource::Fsize, Rlimit { current: Some(65536), maximum: Some(65536) })
        .unwrap();
    let said = bench.j(&["flasher", "flash", "large.img"]).await;
    assert!(said.contains("File too large") && said.contains("ulimit -f"), "{said}");
    let said = bench.j(&["power", "on"]).await;
    assert!(!said.contains("error"), "the exporter died: {said}");
    // This end, too.
    let said = script(&bench, "ulimit -f 0; $j flasher dump back.img; echo $?; ls back.img").await;
    assert!(said.contains("File too large") && said.contains("1\n"), "{said}");
    assert!(!bench.lab.path("back.img").exists());
}
