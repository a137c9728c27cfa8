//! Drivers that are broken on purpose: each breaks exactly its duty, and every duty is broken by
//! one.

mod fakes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fakes::camera::{Camera, CameraConfig};
use fakes::flasher::FlasherConfig;
use fakes::mux::MuxConfig;
use fakes::network::NetworkConfig;
use fakes::odd::{Odd, OddConfig};
use fakes::own::{Meter, OwnConfig};
use fakes::peered::{Board, BoardConfig, Screen, ScreenConfig};
use fakes::power::PowerConfig;
use fakes::serial::SerialConfig;
use fakes::shell::ShellConfig;
use fakes::storage::StorageConfig;
use fakes::twin::{Breaker, TwinConfig};
use fakes::virtual_power::{Virtual, VirtualConfig};
use jumpstarter_driver_core::DriverConfig;
use jumpstarter_driver_testkit::{
    ChildFixture, Failure, Fixture, Mode, all, isolated, of, peer, run_case,
};
use serde_json::json;

fn fixture<C: DriverConfig>(fault: &'static str) -> Fixture<C> {
    Fixture::new(move || Box::pin(configuration(C::NAME, fault)))
}

/// Some fakes change what a good peer says.
async fn configuration(driver: &str, fault: &str) -> serde_json::Value {
    let peer = match driver {
        "fake-board" => peer::uboot("board# ").await,
        "fake-camera" => peer::camera().await,
        "fake-screen" => peer::screen().await,
        _ => return json!({ "fault": fault }),
    };
    json!({ "fault": fault, "peer": peer })
}

/// Runs every case of the groups, both ways, and compares the duties that are broken with the
/// expected ones.
fn check<C: DriverConfig>(name: &str, fixture: Fixture<C>, groups: &[&str], expected: &[&str]) {
    isolated(name, Duration::from_secs(220), || {
        for mode in [Mode::Direct, Mode::Proxy] {
            let mut broken = BTreeMap::new();
            for case in groups.iter().flat_map(|group| of(group)) {
                if let Err(failure) = run_case(&fixture, case, mode) {
                    broken.insert(failure.duty, format!("{case:?}: {failure}"));
                }
            }
            let found: BTreeSet<_> = broken.keys().copied().collect();
            if found != expected.iter().copied().collect() {
                return Err(format!("{mode:?}: expected {expected:?}, broken are {broken:#?}"));
            }
        }
        Ok(())
    });
}

macro_rules! broken {
    ($($test:ident: $config:ident $fault:literal [$($interface:tt)*] $(.$set:ident($seconds:literal))? => $($duty:literal)*;)*) => {
        $(
            #[test]
            fn $test() {
                let fixture = fixture::<$config>($fault)$(.$set(Duration::from_secs($seconds)))?;
                let (fixture, groups) = broken!(@listed fixture, $($interface)*);
                check(concat!(module_path!(), "::", stringify!($test)), fixture, groups, &[$($duty),*]);
            }
        )*
        /// The duties that the fakes break; the first of each is the one that it is made for.
        const BROKEN: &[&[&str]] = &[$(&[$($duty),*]),*];
    };
    (@listed $fixture:ident, power) => { ($fixture.power(), &["generic", "power"]) };
    (@listed $fixture:ident, network) => { ($fixture.network().echo(), &["generic", "network", "echo"]) };
    (@listed $fixture:ident, serial) => { ($fixture.serial(), &["generic", "serial", "loopback"]) };
    (@listed $fixture:ident, mux) => { ($fixture.storage_mux(), &["generic", "storage_mux"]) };
    (@listed $fixture:ident, storage) => { ($fixture.storage(), &["generic", "storage"]) };
    (@listed $fixture:ident, shell) => { ($fixture.shell(), &["generic", "shell"]) };
    (@listed $fixture:ident, flasher) => { ($fixture.flasher(), &["generic", "flasher"]) };
    (@listed $fixture:ident, flasher folder) => {{
        drop($fixture);
        let fixture = Fixture::<FlasherConfig>::new(|| {
            Box::pin(async { json!({ "fault": "litters", "medium": peer::folder() }) })
        });
        let fixture = fixture.settle(Duration::from_millis(500));
        (fixture.flasher().medium("medium"), &["generic", "flasher"])
    }};
    (@listed $fixture:ident, flasher large) => {
        ($fixture.flasher().size("2M"), &["generic", "flasher"])
    };
    (@listed $fixture:ident, own) => {
        ($fixture.custom::<dyn Meter>(|driver| driver).given("watch", json!([3])).children(
            || Box::pin(async { json!({ "lamp": { "type": "fake-power", "config": { "fault": "none" } } }) })
        ), &["generic"])
    };
    (@listed $fixture:ident, virtual_power) => {
        ($fixture.custom::<dyn Virtual>(|driver| driver), &["generic", "virtual_power"])
    };
    (@listed $fixture:ident, video) => {
        ($fixture.custom::<dyn Camera>(|driver| driver), &["generic", "video"])
    };
    (@listed $fixture:ident, vnc) => {
        ($fixture.custom::<dyn Screen>(|driver| driver), &["generic", "vnc"])
    };
    (@listed $fixture:ident, uboot) => {
        ($fixture.custom::<dyn Board>(|driver| driver), &["generic", "uboot"])
    };
    (@listed $fixture:ident, odd) => { ($fixture.custom::<dyn Odd>(|driver| driver), &["generic"]) };
    (@listed $fixture:ident, twin) => {
        ($fixture.power().custom::<dyn Breaker>(|driver| driver), &["generic"])
    };
}

broken! {
    interface_not_offered: PowerConfig "unlisted" [power] => "GENERIC-1";
    file_left: PowerConfig "leaves a file" [power].settle(1) => "GENERIC-2";
    socket_left: PowerConfig "leaves a socket" [power].settle(1) => "GENERIC-2";
    process_left: PowerConfig "leaves a process" [power].settle(1) => "GENERIC-2";
    file_left_by_drop: PowerConfig "file until close" [power].settle(1) => "GENERIC-3";
    second_close_fails: PowerConfig "second close" [power] => "GENERIC-4";
    unseen_panic: PowerConfig "panics unseen" [power] => "GENERIC-4";
    second_reset_fails: PowerConfig "second reset" [power] => "GENERIC-5";
    methods_not_listed: OddConfig "lists nothing" [odd] => "GENERIC-6";
    surplus_taken: OddConfig "takes more" [odd] => "GENERIC-7";
    wrong_type_taken: OddConfig "takes anything" [odd] => "GENERIC-8";
    hangs_after_close: PowerConfig "hangs after close" [power].deadline(5) => "GENERIC-9";
    concurrent_calls_hang: PowerConfig "deadlock" [power].deadline(5) => "GENERIC-10";
    unnamed_child: OddConfig "surprises" [odd] => "GENERIC-12";
    child_with_another_interface: OddConfig "plans wrongly" [odd] => "GENERIC-12";
    two_methods_of_one_name: TwinConfig "always" [twin] => "GENERIC-13";
    stuck_after_a_dropped_call: PowerConfig "stuck after a drop" [power] => "GENERIC-11";

    stream_opens_once: OwnConfig "watches once" [own] => "GENERIC-14";
    channel_stays_open: OwnConfig "keeps taps" [own] => "GENERIC-15";

    wrong_position: StorageConfig "moves from the start" [storage] => "STORAGE-1";
    failure_hidden: StorageConfig "hides failures" [storage] => "STORAGE-2";
    path_leads_out: StorageConfig "leads out" [storage] => "STORAGE-3";
    folder_not_listed: StorageConfig "omits the folder" [storage] => "STORAGE-4";
    any_handle_known: StorageConfig "knows any handle" [storage] => "STORAGE-5";

    on_when_on_fails: PowerConfig "on when on" [power] => "POWER-1";
    off_when_off_fails: PowerConfig "off when off" [power] => "POWER-2";
    race_fails: PowerConfig "race" [power] => "POWER-3";
    negative_voltage: PowerConfig "negative" [power] => "POWER-4";
    two_readings_only: PowerConfig "two readings" [power] => "POWER-5";

    // Without a connection nothing else can be seen.
    never_connects: NetworkConfig "never connects" [network]
        => "NETWORK-1" "NETWORK-2" "NETWORK-3" "NETWORK-5" "ECHO-1" "ECHO-2" "ECHO-3";
    few_connections: NetworkConfig "eight at most" [network] => "NETWORK-2";
    ends_together: NetworkConfig "ends together" [network] => "NETWORK-3";
    address_without_scheme: NetworkConfig "bare address" [network] => "NETWORK-4";
    keeps_connections: NetworkConfig "keeps connections" [network] => "NETWORK-5";
    holds_data_back: NetworkConfig "holds back" [network].deadline(10) => "ECHO-1" "ECHO-3";
    never_ends: NetworkConfig "endless" [network].deadline(10) => "ECHO-2";
    takes_without_bound: NetworkConfig "unbounded" [network] => "ECHO-3";

    // The cancelled call of a port that stays busy finds it busy too.
    stays_busy: SerialConfig "stays busy" [serial] => "SERIAL-1" "GENERIC-11";
    line_fails: SerialConfig "line" [serial] => "SERIAL-2";
    close_ignored: SerialConfig "ignores close" [serial].deadline(5) => "SERIAL-3";
    keeps_port_open: SerialConfig "keeps connections" [serial] => "SERIAL-4";
    seven_bits: SerialConfig "seven bits" [serial] => "LOOPBACK-1";

    describes_what_it_lacks: ShellConfig "describes more" [shell] => "SHELL-1";
    runs_any_method: ShellConfig "any method" [shell] => "SHELL-2";
    ends_without_a_code: ShellConfig "no code" [shell] => "SHELL-3" "SHELL-5";
    takes_any_variable: ShellConfig "any variable" [shell] => "SHELL-4";
    stuck_after_dropped_output: ShellConfig "stuck after a drop" [shell].deadline(10) => "SHELL-5";

    // Who dumps something else shows every image wrong.
    flips_a_bit: FlasherConfig "flips a bit" [flasher]
        => "FLASHER-1" "FLASHER-2" "FLASHER-3" "FLASHER-4" "FLASHER-5" "FLASHER-6" "FLASHER-7" "FLASHER-8"
           "FLASHER-9" "FLASHER-10" "FLASHER-12" "FLASHER-14" "FLASHER-15" "FLASHER-16" "FLASHER-17" "FLASHER-18"
           "FLASHER-22";
    ignores_gzip: FlasherConfig "gzip" [flasher] => "FLASHER-2";
    ignores_xz: FlasherConfig "xz" [flasher] => "FLASHER-3";
    ignores_bzip2: FlasherConfig "bzip2" [flasher] => "FLASHER-4";
    ignores_zstd: FlasherConfig "zstd" [flasher] => "FLASHER-5";
    takes_short_transfers: FlasherConfig "takes short ones" [flasher] => "FLASHER-6";
    takes_cut_compression: FlasherConfig "takes cut ones" [flasher] => "FLASHER-7";
    takes_failed_transfers: FlasherConfig "takes broken ones" [flasher] => "FLASHER-8";
    believes_any_digest: FlasherConfig "believes" [flasher] => "FLASHER-9";
    takes_nothing: FlasherConfig "takes nothing" [flasher] => "FLASHER-10";
    takes_any_target: FlasherConfig "any target" [flasher] => "FLASHER-11";
    cancelled_flash_cuts: FlasherConfig "cut off when cancelled" [flasher] => "FLASHER-12";
    silent: FlasherConfig "silent" [flasher] => "FLASHER-13";
    half_a_file: FlasherConfig "half a file" [flasher] => "FLASHER-14";
    dump_never_fails: FlasherConfig "never fails" [flasher] => "FLASHER-15";
    stuck_after_a_cancelled_dump: FlasherConfig "stuck after a dump" [flasher] => "FLASHER-16";
    late_cancel_ignored: FlasherConfig "ignores a late cancel" [flasher large] => "FLASHER-18";
    first_piece_only: FlasherConfig "first piece" [flasher large]
        => "FLASHER-19" "FLASHER-1" "FLASHER-6" "FLASHER-7" "FLASHER-8" "FLASHER-9" "FLASHER-10"
           "FLASHER-12" "FLASHER-14" "FLASHER-15" "FLASHER-16" "FLASHER-17" "FLASHER-18"
           "FLASHER-22";
    zeros_skipped: FlasherConfig "skips zeros" [flasher large] => "FLASHER-20" "FLASHER-1" "FLASHER-12";
    names_no_target: FlasherConfig "names no target" [flasher] => "FLASHER-21";
    reads_before_it_refuses: FlasherConfig "reads first" [flasher] => "FLASHER-21";
    lists_what_it_lacks: FlasherConfig "lists a spare" [flasher] => "FLASHER-22";
    takes_no_other_target: FlasherConfig "takes others" [flasher] => "FLASHER-23";
    litters_the_medium: FlasherConfig "litters" [flasher folder]
        => "FLASHER-6" "FLASHER-7" "FLASHER-8" "FLASHER-9" "FLASHER-10";
    mixes_images: FlasherConfig "mixes" [flasher] => "FLASHER-17";

    switches_once: MuxConfig "switches once" [mux] => "MUX-1" "MUX-2";
    loses_the_medium: MuxConfig "loses the medium" [mux] => "MUX-2";
    stays_broken: MuxConfig "stays broken" [mux] => "MUX-3";

    off_once: VirtualConfig "off once" [virtual_power] => "VIRTUAL-1";
    stays_destroyed: VirtualConfig "stays destroyed" [virtual_power] => "VIRTUAL-2";

    no_picture: CameraConfig "no picture" [video] => "VIDEO-1";
    no_stream: CameraConfig "no stream" [video] => "VIDEO-2" "VIDEO-3";
    streams_on: CameraConfig "streams on" [video] => "VIDEO-3";

    changes_its_mind: ScreenConfig "changes its mind" [vnc] => "VNC-1";
    small_picture: ScreenConfig "small picture" [vnc].deadline(10) => "VNC-2";

    another_prompt: BoardConfig "another prompt" [uboot] => "UBOOT-1";
    no_codes: BoardConfig "no codes" [uboot] => "UBOOT-2";
    forgets: BoardConfig "forgets" [uboot] => "UBOOT-3";
    types_on: BoardConfig "types on" [uboot] => "UBOOT-4";
}

/// Nothing ever ends such a connection: each case would wait for its whole time.
#[test]
fn connections_that_are_kept_alive_are_found_soon() {
    let name = concat!(module_path!(), "::connections_that_are_kept_alive_are_found_soon");
    isolated(name, Duration::from_secs(60), || {
        let fixture = fixture::<PowerConfig>("keeps alive").power().settle(Duration::from_secs(50));
        let failure = run_case(&fixture, &of("power")[0], Mode::Proxy).err();
        let is_told = |failure: &Failure| {
            failure.duty == "GENERIC-2" && failure.message.contains("`connection: close`")
        };
        match failure {
            Some(failure) if is_told(&failure) => Ok(()),
            failure => Err(format!("{failure:?}")),
        }
    });
}

#[test]
fn a_broken_child_is_found() {
    let fixture = ChildFixture::new(fixture::<OwnConfig>("child"), "power").power();
    let name = concat!(module_path!(), "::a_broken_child_is_found");
    isolated(name, Duration::from_secs(60), || {
        let fixture = fixture.into();
        let broken: Vec<_> = of("power")
            .iter()
            .filter_map(|case| run_case(&fixture, case, Mode::Child).err())
            .map(|failure| failure.duty)
            .collect();
        if broken == ["POWER-1"] { Ok(()) } else { Err(format!("broken are {broken:?}")) }
    });
}

#[test]
fn every_duty_is_broken_by_a_fake() {
    let broken: BTreeSet<_> = BROKEN.iter().map(|duties| duties[0]).collect();
    assert_eq!(broken, all().map(|case| case.duty).collect());
}
