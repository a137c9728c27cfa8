//! What passes of a console's past, and what does not.

use super::*;

fn filtered(raw: &[u8], size: usize) -> Vec<u8> {
    let (mut replay, mut out) = (Replay::default(), Vec::new());
    raw.chunks(size).for_each(|piece| replay.filter(piece, &mut out));
    replay.finish(&mut out);
    out
}

#[track_caller]
fn check(raw: &[u8], expected: &[u8]) {
    // Whole, and byte by byte.
    for size in [raw.len(), 1] {
        let out = filtered(raw, size);
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn what_is_shown_passes_as_it_is() {
    for raw in [
        &b"\x1b[1;32mroot@host\x1b[0m:~# \x1b[K\r\n\tx\x08\x07"[..],
        "Grüße, 世界 🦀 \u{a0}\u{c5b}".as_bytes(),
        b"\x1b]0;a title?\x07\x1b]2;b\x1b\\\x1b]8;;http://h/?q\x1b\\link\x1b]8;;\x1b\\",
        b"\x1b[?25l\x1b[?1049h\x1b[?2004h\x1b[2J\x1b[3;4H\x1b[1;24r\x1b7\x1b8\x1bM\x1b(B\x1b[38:2:1:2:3m\x1b[2 q",
    ] {
        check(raw, raw);
    }
}

#[test]
fn what_a_terminal_answers_goes() {
    for question in [
        &b"\x1b[6n"[..],
        b"\x1b[5n",
        b"\x1b[?6n",
        b"\x1b[?996n",
        b"\x1b[c",
        b"\x1b[0c",
        b"\x1b[>c",
        b"\x1b[=c",
        b"\x1bZ",
        b"\x05",
        b"\x1b[x",
        b"\x1b[1x",
        b"\x1b[18t",
        b"\x1b[21t",
        b"\x1b[?2004$p",
        b"\x1b[4$p",
        b"\x1b[>q",
        b"\x1b[>0q",
        b"\x1b[?u",
        b"\x1b[?1$r",
        b"\x1b[1*y",
        b"\x1b[?2048h",
        b"\x1b[?1004h",
        b"\x1b[?25;1004h",
        b"\x1b[2$w",
        b"\x1b[#S",
        b"\x1b[?1;1;0S",
        b"\x1bP$qm\x1b\\",
        b"\x1bP+q544e\x1b\\",
        b"\x1b]10;?\x07",
        b"\x1b]4;0;?\x1b\\",
        b"\x1b]52;c;?\x07",
        b"\x1b]1337;ReportCellSize\x07",
        b"\x1b]60\x1b\\",
        b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1b[\x056n",
        b"\x1b[6\x7fn",
        b"\x1b[\x1b[6n",
        b"\x1b]0;x\x1b[6n",
    ] {
        let mut raw = b"before ".to_vec();
        raw.extend_from_slice(question);
        raw.extend_from_slice(b" after");
        let out = filtered(&raw, 1);
        assert!(!out.contains(&0x1b) && !out.contains(&5), "{}", question.escape_ascii());
        check(&raw, b"before  after");
    }
}

#[test]
fn control_characters_in_eight_bits_lose_their_power() {
    check("a\u{9b}6nb\u{9d}10;?\u{9c}c\u{90}$qm\u{9c}".as_bytes(), b"a6nb10;?c$qm");
    check(b"a\x9b6n\x85b", b"a6nb");
    // Within a title too, which would end at 0x9c.
    check("\x1b]0;a\u{9c}\x07b".as_bytes(), b"b");
}

#[test]
fn a_sequence_without_end_swallows_little() {
    check(b"\x1b]0;no end\nnext\x1b[\n5Cx", b"\nnext\n\x1b[5Cx");
    let mut endless = b"\x1b[".to_vec();
    endless.extend(vec![b'1'; 1 << 20]);
    endless.extend(b"mx");
    check(&endless, b"x");
    // What had not ended when somebody came goes on before their eyes.
    check(b"a\x1b[3", b"a\x1b[3");
}

#[test]
fn what_passed_once_passes_again() {
    let alphabet: Vec<&[u8]> = vec![
        b"\x1b",
        b"[",
        b"]",
        b"P",
        b"\\",
        b"6",
        b"n",
        b";",
        b"?",
        b"0",
        b"m",
        b"\x07",
        b"\xc2",
        b"\x9b",
        b"\x9c",
        b"c",
        b"\xe4\xb8\x96",
        b"\n",
        b"\x18",
        b" ",
        b"$",
        b"p",
        b"Z",
        b"\x05",
        b"8",
        b"h",
        b"\x7f",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut raw = Vec::new();
        for _ in 0..24 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            raw.extend_from_slice(alphabet[(seed % alphabet.len() as u64) as usize]);
        }
        let once = filtered(&raw, raw.len());
        let twice = filtered(&once, 1);
        assert_eq!(
            once.escape_ascii().to_string(),
            twice.escape_ascii().to_string(),
            "{}",
            raw.escape_ascii()
        );
    }
}
