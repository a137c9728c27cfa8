//! Answers of an image's server: no beginning of one is accepted as an image, no secret follows a
//! redirect elsewhere, and nothing panics or hangs.
#![no_main]

use jumpstarter_codec::Compression;
use jumpstarter_transfer::fuzzing::{Outcome, answered};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;
const URL: &str = "https://images.example/dir/os.img?sig=s3cret";

fuzz_target!(|input: &[u8]| {
    let [piece, high, low, answer @ ..] = input else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |answer: &[u8]| {
        let piece = usize::from(*piece);
        let limited = std::time::Duration::from_secs(10);
        let asked = async { tokio::time::timeout(limited, answered(URL, answer, piece, LIMIT)).await };
        runtime.block_on(asked).expect("it ends")
    };
    let whole = ask(answer);
    if let Err(error) = &whole {
        assert!(!error.report().contains("s3cret"), "{}", error.report());
    }
    // The trailer of a compressed image proves it complete: one with several parts may end after
    // the first.
    let is_compressed = (0..answer.len()).any(|at| Compression::detect(&answer[at..]) != Compression::Raw);
    if let (Ok(Outcome::Image(whole)), false) = (whole, is_compressed) {
        let cut = usize::from(u16::from_be_bytes([*high, *low])) % answer.len().max(1);
        if let Ok(Outcome::Image(part)) = ask(&answer[..cut]) {
            assert!(part == whole, "a beginning of an answer is taken for an image");
        }
    }
});
