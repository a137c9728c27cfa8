//! The limit of open files: in a separate process, since the limit is process-wide.

use std::time::Duration;

use jumpstarter_supervise::{Command, raise_open_files, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn this_process_may_open_more_files_and_its_children_as_many_as_before() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum }).unwrap();
    raise_open_files();
    raise_open_files();
    let raised = getrlimit(Resource::Nofile);
    assert_eq!(raised.current, Some(maximum.unwrap_or(u64::MAX).min(1 << 20)));
    assert!(raised.current > Some(200), "the test needs a hard limit above 200: {raised:?}");
    let shown =
        run(Command::new("sh").args(["-c", "ulimit -Sn; ulimit -Hn"]), Duration::from_secs(20))
            .await;
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("200"));
    let hard = maximum.map_or_else(|| "unlimited".to_owned(), |maximum| maximum.to_string());
    assert_eq!(lines.next(), Some(hard.as_str()));
}
