//! The macro that makes a test of every case, and its list of cases.

/// Makes a test of every case of a driver's interfaces, each as `direct` (the driver itself) and as
/// `proxy` (the typed proxy over an in-process caller): `power::on_is_idempotent::proxy`.
///
/// ```
/// # mod relay { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/example/relay.in")); }
/// # use relay::*;
/// # use jumpstarter_driver_testkit::{conformance, guest::{Arch, qemu_available}};
/// conformance!(RelayConfig, { "port": fake_board(), "channel": 1 }, [power]);
/// conformance!(
///     mod second_channel, RelayConfig, { "port": fake_board(), "channel": 2 }, [power],
///     deadline: 120 s,
///     needs: || qemu_available(Arch::X86_64),
///     waive: { "GENERIC-3": "the board keeps its port until it restarts" }
/// );
/// # fn main() {}
/// ```
///
/// - The configuration is what an exporter file would hold, as in `serde_json::json!`. Its values
///   may be any expressions; they are evaluated once a case, inside a tokio runtime, and may await.
///   What they start (a fake board, a server) lives until the case's process ends.
/// - The list names every interface that the driver offers, no more and no less. `network(echo)`
///   says that the peer echoes, `serial(loopback)` that the port does; both add cases.
///   `flasher(target("root"))` flashes another target than the default one, `flasher(in_place)`
///   says that the old image cannot outlive a failed flash, `flasher(any_target)` that any name is
///   a target, and `flasher(any_target, as_is)` that images are stored unchanged, even compressed
///   ones. `flasher(size("5M"))` flashes images of that size: choose one larger than the pieces in
///   which the driver writes and reads. `flasher(medium("path"))` names the configuration's field
///   with the file, folder or device that is written, so that the suite can read it without the
///   driver. `custom Machine` is a new interface of the driver, which gets the generic cases.
/// - `custom VirtualPower, virtual_power` adds the cases of an interface of another crate; there
///   are `virtual_power`, `video`, `vnc` and `uboot`. The peer must be there: a camera with
///   pictures, a screen without a password, a board that waits at U-Boot's prompt.
/// - `custom Machine { wait_for: ["running"], resize: ["memory", 96] }` gives arguments for methods
///   that the suite cannot call without them (an array of those that are not images).
/// - `child power: [power]` runs the cases of interfaces on a child that the driver makes; a child
///   whose name is not an identifier gets one: `child "usb-c" as usb_c: [power]`.
/// - `children: { "a": { "type": "mock-power" } }` gives the driver configured children, as an
///   exporter file does. Their drivers must be linked into the test.
/// - `deadline: 120 s` replaces the case's limit of 30 seconds.
/// - `needs: || qemu_available(Arch::X86_64)` skips every case if it returns false, after a
///   [`skip`](crate::skip()).
/// - `waive: { "GENERIC-3": "why" }` skips the cases of a duty that is a SHOULD; a MUST does not
///   compile.
/// - `mod name,` in front puts the tests into a module: for several drivers in a file.
///
/// Each case runs in a separate process with an empty temporary folder, on a separate instance. It
/// fails if a process, socket or file is left when the instance is closed. Files in folders that
/// the configuration's expressions made may stay (a flashed image), but hidden ones and sockets may
/// not.
#[macro_export]
macro_rules! conformance {
    (mod $name:ident, $($rest:tt)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the configuration may name nothing from outside")]
            use super::*;
            $crate::conformance! { $($rest)* }
        }
    };
    (
        $config:ty, { $($json:tt)* }, [$($interfaces:tt)*]
        $(, children: { $($children:tt)* })?
        $(, deadline: $seconds:literal s)?
        $(, needs: $needs:expr)?
        $(, waive: { $($duty:literal: $reason:literal),* $(,)? })? $(,)?
    ) => {
        fn __fixture() -> $crate::Fixture<$config> {
            let fixture = $crate::Fixture::<$config>::new(|| ::std::boxed::Box::pin(async {
                $crate::__private::json!({ $($json)* })
            }));
            $(let fixture = fixture.children(|| ::std::boxed::Box::pin(async {
                $crate::__private::json!({ $($children)* })
            }));)?
            $(let fixture = fixture.deadline($crate::__private::Duration::from_secs($seconds));)?
            $(let fixture = fixture.needs($needs);)?
            $($(
                const { assert!($crate::__private::can_be_waived($duty), "a MUST cannot be waived") };
                let fixture = fixture.waive($duty, $reason);
            )*)?
            $crate::__listed! { fixture, $($interfaces)* }
        }
        $crate::__cases! { test generic }
        $crate::__tests! { test $($interfaces)* }
        type __Config = $config;
        mod children {
            #[allow(unused_imports, reason = "not every driver makes children")]
            use super::*;
            $crate::__children! { $($interfaces)* }
        }
    };
}

/// Adds the listed interfaces to a fixture.
#[doc(hidden)]
#[macro_export]
macro_rules! __listed {
    ($fixture:expr, child $name:tt $(as $module:ident)?: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__listed! { $fixture, $($($rest)*)? }
    };
    (
        $fixture:expr,
        custom $interface:path $({ $($method:ident: $arguments:tt),* $(,)? })? $(, $($rest:tt)*)?
    ) => {
        $crate::__listed! {
            $fixture
                .custom::<dyn $interface>(|driver| driver)
                $($(.given(stringify!($method), $crate::__private::json!($arguments)))*)?,
            $($($rest)*)?
        }
    };
    ($fixture:expr, $name:ident $(($($option:ident $(($value:expr))?),*))? $(, $($rest:tt)*)?) => {
        $crate::__listed! { $fixture.$name()$($(.$option($($value)?))*)?, $($($rest)*)? }
    };
    ($fixture:expr $(,)?) => { $fixture };
}

/// Makes the tests of the listed interfaces and of their options.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($what:ident child $name:tt $(as $module:ident)?: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__tests! { $what $($($rest)*)? }
    };
    ($what:ident custom $interface:path $({ $($given:tt)* })? $(, $($rest:tt)*)?) => {
        $crate::__tests! { $what $($($rest)*)? }
    };
    ($what:ident $name:ident $(($($option:ident $(($value:expr))?),*))? $(, $($rest:tt)*)?) => {
        $crate::__cases! { $what $name }
        $($($crate::__cases! { $what $option })*)?
        $crate::__tests! { $what $($($rest)*)? }
    };
    ($what:ident) => {};
}

/// Makes a module of tests for each child that is listed.
#[doc(hidden)]
#[macro_export]
macro_rules! __children {
    (child $name:ident: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__children! { child (stringify!($name)) as $name: [$($inner)*] $(, $($rest)*)? }
    };
    (child $name:tt as $module:ident: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        mod $module {
            #[allow(unused_imports, reason = "an option may name nothing from outside")]
            use super::*;
            fn __fixture() -> $crate::Fixture<super::__Config> {
                let child = $crate::ChildFixture::new(super::__fixture(), $name);
                $crate::__listed! { child, $($inner)* }.into()
            }
            $crate::__tests! { child $($inner)* }
        }
        $crate::__children! { $($($rest)*)? }
    };
    (custom $interface:path $({ $($given:tt)* })? $(, $($rest:tt)*)?) => {
        $crate::__children! { $($($rest)*)? }
    };
    ($name:ident $(($($option:tt)*))? $(, $($rest:tt)*)?) => {
        $crate::__children! { $($($rest)*)? }
    };
    () => {};
}

/// The list of all cases: `test` makes tests of a group, `table` its table.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    ($what:ident generic) => {
        $crate::__each! { $what generic:
            interfaces_are_as_listed "GENERIC-1",
            closing_releases_everything "GENERIC-2",
            dropping_releases_everything "GENERIC-3",
            close_is_idempotent "GENERIC-4",
            reset_is_idempotent "GENERIC-5",
            unknown_method_is_not_found "GENERIC-6",
            surplus_argument_is_refused "GENERIC-7",
            argument_of_wrong_type_is_refused "GENERIC-8",
            calls_after_close_end "GENERIC-9",
            concurrent_calls_end "GENERIC-10",
            cancelled_call_leaves_it_usable "GENERIC-11",
            children_are_named_before_they_exist "GENERIC-12",
            methods_have_different_names "GENERIC-13",
            dropped_stream_can_be_repeated "GENERIC-14",
            dropped_channel_is_closed "GENERIC-15"
        }
    };
    ($what:ident power) => {
        $crate::__each! { $what power:
            on_is_idempotent "POWER-1",
            off_is_idempotent "POWER-2",
            raced_switches_end_in_order "POWER-3",
            readings_are_plausible "POWER-4",
            dropped_reading_can_be_repeated "POWER-5"
        }
    };
    ($what:ident network) => {
        $crate::__each! { $what network:
            connect_opens_or_is_unavailable "NETWORK-1",
            many_connections_at_once "NETWORK-2",
            half_close_keeps_the_connection "NETWORK-3",
            address_has_a_scheme "NETWORK-4",
            dropped_connection_is_closed "NETWORK-5"
        }
    };
    ($what:ident echo) => {
        $crate::__each! { $what echo:
            data_comes_back_whole "ECHO-1",
            data_outlives_half_close "ECHO-2",
            slow_reader_slows_the_writer "ECHO-3"
        }
    };
    ($what:ident serial) => {
        $crate::__each! { $what serial:
            reopens_after_drop "SERIAL-1",
            control_lines_work_or_are_unimplemented "SERIAL-2",
            close_ends_connections "SERIAL-3",
            dropped_connection_is_closed "SERIAL-4"
        }
    };
    ($what:ident loopback) => {
        $crate::__each! { $what loopback:
            data_comes_back_whole "LOOPBACK-1"
        }
    };
    ($what:ident flasher) => {
        $crate::__each! { $what flasher:
            raw_image_comes_back "FLASHER-1",
            gzip_image_is_decompressed "FLASHER-2",
            xz_image_is_decompressed "FLASHER-3",
            bzip2_image_is_decompressed "FLASHER-4",
            zstd_image_is_decompressed "FLASHER-5",
            truncated_transfer_is_data_loss "FLASHER-6",
            truncated_compression_is_refused "FLASHER-7",
            failing_source_is_refused "FLASHER-8",
            digest_is_checked "FLASHER-9",
            empty_source_is_refused "FLASHER-10",
            unknown_target_is_refused "FLASHER-11",
            cancelled_flash_leaves_the_old_image "FLASHER-12",
            progress_grows_to_the_end "FLASHER-13",
            dump_to_a_file_is_whole "FLASHER-14",
            failing_dump_is_an_error "FLASHER-15",
            cancelled_dump_can_be_repeated "FLASHER-16",
            concurrent_flashes_do_not_mix "FLASHER-17",
            late_cancel_is_heeded "FLASHER-18",
            every_piece_comes_back "FLASHER-19",
            zeros_replace_the_old_image "FLASHER-20",
            unknown_target_names_the_listed_ones "FLASHER-21",
            listed_targets_keep_their_images "FLASHER-22",
            other_targets_are_taken "FLASHER-23"
        }
    };
    ($what:ident storage_mux) => {
        $crate::__each! { $what storage_mux:
            switches_are_idempotent "MUX-1",
            written_image_comes_back "MUX-2",
            failed_write_leaves_it_usable "MUX-3"
        }
    };
    ($what:ident storage) => {
        $crate::__each! { $what storage:
            written_file_comes_back "STORAGE-1",
            failed_write_keeps_the_old_file "STORAGE-2",
            paths_stay_inside "STORAGE-3",
            folders_are_listed "STORAGE-4",
            handles_are_known "STORAGE-5"
        }
    };
    ($what:ident shell) => {
        $crate::__each! { $what shell:
            methods_are_listed_once "SHELL-1",
            unknown_method_is_refused "SHELL-2",
            output_ends_with_the_exit_code "SHELL-3",
            variables_that_choose_programs_are_refused "SHELL-4",
            dropped_output_ends_the_program "SHELL-5"
        }
    };
    ($what:ident virtual_power) => {
        $crate::__each! { $what virtual_power:
            switches_are_idempotent "VIRTUAL-1",
            destroyed_device_is_made_again "VIRTUAL-2"
        }
    };
    ($what:ident video) => {
        $crate::__each! { $what video:
            snapshot_is_a_picture "VIDEO-1",
            stream_begins_with_a_picture "VIDEO-2",
            stream_ends_at_close "VIDEO-3"
        }
    };
    ($what:ident vnc) => {
        $crate::__each! { $what vnc:
            answer_is_stable "VNC-1",
            picture_has_the_stated_size "VNC-2"
        }
    };
    ($what:ident uboot) => {
        $crate::__each! { $what uboot:
            prompt_is_stable "UBOOT-1",
            command_is_answered "UBOOT-2",
            variable_comes_back "UBOOT-3",
            closed_console_takes_no_command "UBOOT-4"
        }
    };
    ($what:ident target) => {};
    ($what:ident in_place) => {};
    ($what:ident any_target) => {};
    ($what:ident as_is) => {};
    ($what:ident size) => {};
    ($what:ident medium) => {};
}

/// Makes the requested item for each case.
#[doc(hidden)]
#[macro_export]
macro_rules! __each {
    (test $group:ident: $($case:ident $duty:literal),*) => {
        mod $group {$(
            mod $case {
                #[test]
                fn direct() {
                    let fixture = super::super::__fixture();
                    let (group, case) = (stringify!($group), stringify!($case));
                    $crate::__private::test(module_path!(), fixture, group, case, $crate::Mode::Direct);
                }
                #[test]
                fn proxy() {
                    let fixture = super::super::__fixture();
                    let (group, case) = (stringify!($group), stringify!($case));
                    $crate::__private::test(module_path!(), fixture, group, case, $crate::Mode::Proxy);
                }
            }
        )*}
    };
    (child $group:ident: $($case:ident $duty:literal),*) => {
        mod $group {$(
            #[test]
            fn $case() {
                let fixture = super::__fixture();
                let (group, case) = (stringify!($group), stringify!($case));
                let module = concat!(module_path!(), "::", stringify!($case));
                $crate::__private::test(module, fixture, group, case, $crate::Mode::Child);
            }
        )*}
    };
    (table $group:ident: $($case:ident $duty:literal),*) => {
        &[$($crate::Case {
            group: stringify!($group),
            name: stringify!($case),
            duty: $duty,
            run: |instance| ::std::boxed::Box::pin($group::$case(instance)),
        }),*]
    };
}
