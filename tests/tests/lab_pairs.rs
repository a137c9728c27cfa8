//! Our exporter with our client: the whole suite of a lab. Those in Python run parts of it in
//! `python_lab_pairs.rs`, and all of it with `cargo xtask lab pairs`.

use std::path::Path;

use jumpstarter_tests::pairs::{Pair, Part, Programs, Station};

#[tokio::test]
async fn our_exporter_and_our_client_pass_every_part() {
    let programs = Programs::new(Path::new(env!("CARGO_BIN_EXE_lab")), None).unwrap();
    let station = Station::start(&programs, Pair::OURS).await.unwrap();
    for part in Part::ALL {
        if let Err(error) = part.run(&station).await {
            panic!("{}", error.report());
        }
    }
}
