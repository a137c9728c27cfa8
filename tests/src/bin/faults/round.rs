//! One round: an action, a fault in it, and what must hold all the same.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::{blocking_eventually, pico};
use rustix::process::Signal;

use crate::action::Action;
use crate::fault::Fault;
use crate::memory_disk;
use crate::station::{Client, PATIENCE, Station, signal};
use crate::tally::{Broken, Kind};

/// Within this time the fault strikes.
const WITHIN_MS: u64 = 900;
/// Something frozen goes on after this time.
const FROZEN_MS: u64 = 2_000;
/// Size of a medium's image once decompressed, in bytes.
const MEDIUM_SIZE: usize = 6 << 20;

/// An action and the fault that strikes it.
pub(crate) struct Round {
    chance: fastrand::Rng,
    action: Action,
    fault: Fault,
    station: Station,
    /// What the medium and the root disk may hold.
    medium: Vec<Vec<u8>>,
    root: Vec<Vec<u8>>,
    broken: Vec<Broken>,
}

impl Round {
    pub(crate) fn new(chance: fastrand::Rng, action: Action, fault: Fault) -> Result<Self> {
        let station = Station::new(memory_disk::obstacle().is_none(), fault.hangs())?;
        Ok(Self {
            chance,
            action,
            fault,
            station,
            medium: Vec::new(),
            root: Vec::new(),
            broken: Vec::new(),
        })
    }

    /// Plays it; the promises that were broken.
    ///
    /// # Errors
    /// What stood in the way before the fault struck.
    pub(crate) fn run(mut self) -> Result<Vec<Broken>> {
        self.prepare().context("before the fault")?;
        let mut client = self.begin()?;
        let delay = self.delay();
        pause(delay);
        self.strike(&mut client);
        let status = self.outcome(&mut client);
        self.judge(status, &client);
        drop(client);
        self.recover();
        self.finish();
        Ok(self.broken)
    }

    fn break_promise(&mut self, kind: Kind, what: impl Into<String>) {
        let what = format!("{}\n    {}", what.into(), self.station.log_end());
        self.broken.push(Broken { kind, what });
    }

    /// Mostly early, when most happens.
    fn delay(&mut self) -> Duration {
        let part = self.chance.f64();
        Duration::from_millis(WITHIN_MS).mul_f64(part * part)
    }

    fn prepare(&mut self) -> Result<()> {
        self.station.start()?;
        let (medium, root) = (self.medium_image(), self.root_image());
        self.flash("medium", &medium)?;
        self.flash("qemu flasher", &root)?;
        (self.medium, self.root) = (vec![medium], vec![root]);
        if self.action.needs_running() {
            self.station.must(&["qemu", "power", "on"])?;
            if self.chance.bool() {
                self.station.await_login()?;
            }
        }
        fs::write(self.station.dump(), b"an older dump")?;
        Ok(())
    }

    fn flash(&self, driver: &str, image: &[u8]) -> Result<()> {
        let file = self.station.image("prepared.img", image)?.display().to_string();
        let words: Vec<_> = driver.split(' ').chain(["flash", &*file]).collect();
        self.station.must(&words)
    }

    /// Half random, half zeros.
    fn medium_image(&mut self) -> Vec<u8> {
        let mut image = vec![0; MEDIUM_SIZE];
        self.chance.fill(&mut image[..MEDIUM_SIZE / 2]);
        image
    }

    /// The guest, with a mark on its disk.
    fn root_image(&mut self) -> Vec<u8> {
        let mut image = pico::image().to_vec();
        let at = (pico::FIRST_SCRATCH_SECTOR as usize + 1) * pico::SECTOR_SIZE;
        self.chance.fill(&mut image[at..at + pico::SECTOR_SIZE]);
        image
    }

    /// Starts the action's client.
    fn begin(&mut self) -> Result<Client> {
        let dump = self.station.dump();
        let j = |words: &str, file: Option<&Path>| {
            self.station.j(words.split(' ').map(Path::new).chain(file))
        };
        match self.action {
            Action::FlashMedium => {
                let image = self.medium_image();
                let packed = zstd::bulk::compress(&image, 1)?;
                self.medium.push(image);
                let file = self.station.image("new.img.zst", &packed)?;
                self.station.j([Path::new("medium"), Path::new("flash"), &file])
            }
            Action::FlashRoot => {
                let image = self.root_image();
                let file = self.station.image("new.img", &image)?;
                self.root.push(image);
                self.station
                    .j(["qemu", "flasher", "flash"].map(Path::new).into_iter().chain([&*file]))
            }
            Action::Boot => j("qemu power on", None),
            Action::Run => j("qemu console pipe --no-input", None),
            Action::Stop => j("qemu power off", None),
            Action::DumpMedium => j("medium dump", Some(&dump)),
            Action::DumpRoot => j("qemu flasher dump", Some(&dump)),
        }
    }

    /// Lets the fault happen, and what of it passes pass.
    fn strike(&mut self, client: &mut Client) {
        let station = &self.station;
        let frozen = Duration::from_millis(self.chance.u64(100..FROZEN_MS));
        match self.fault {
            Fault::KillExporter => station.signal_exporter(Signal::KILL),
            Fault::TerminateExporter => station.signal_exporter(Signal::TERM),
            Fault::KillClient => client.signal(Signal::KILL),
            Fault::InterruptClient => client.signal(Signal::INT),
            Fault::KillQemu => {
                station.below_exporter("qemu").iter().for_each(|qemu| signal(qemu, Signal::KILL))
            }
            Fault::KillGuardian => {
                station
                    .below_exporter("js-guardian")
                    .iter()
                    .for_each(|guardian| signal(guardian, Signal::KILL));
            }
            Fault::FreezeExporter => {
                station.signal_exporter(Signal::STOP);
                pause(frozen);
                station.signal_exporter(Signal::CONT);
            }
            Fault::FreezeClient => {
                client.signal(Signal::STOP);
                self.others_are_served(frozen);
                client.signal(Signal::CONT);
            }
            Fault::FreezeQemu | Fault::FreezeGuardian => {
                let name = if self.fault == Fault::FreezeQemu { "qemu" } else { "js-guardian" };
                let targets = station.below_exporter(name);
                targets.iter().for_each(|target| signal(target, Signal::STOP));
                self.others_are_served(frozen);
                targets.iter().for_each(|target| signal(target, Signal::CONT));
            }
            Fault::FullDisk => {
                let filled = station.disk.as_ref().map(|disk| disk.fill());
                if let Some(Err(error)) = filled {
                    self.break_promise(
                        Kind::Unusable,
                        format!("the disk cannot be filled: {}", error.report()),
                    );
                }
                self.others_are_served(frozen);
                if let Some(disk) = &self.station.disk {
                    disk.relieve();
                }
            }
            Fault::RemoveFolders => station.remove_folders(),
            Fault::HangingEnd => {
                self.freeze_files();
                pause(frozen / 4);
                self.station.signal_exporter(Signal::TERM);
                if !blocking_eventually(PATIENCE, || self.station.has_exited()) {
                    self.break_promise(
                        Kind::Hang,
                        "the exporter does not end while a file system hangs",
                    );
                }
                self.thaw_files();
            }
            Fault::HangingFiles => {
                self.freeze_files();
                self.others_are_served(frozen);
                // Half of the clients leave while the file system hangs.
                if self.chance.bool() {
                    client.signal(Signal::KILL);
                    self.others_are_served(frozen);
                }
                self.thaw_files();
            }
        }
    }

    fn freeze_files(&self) {
        if let Some(hanging) = &self.station.hanging {
            hanging.freeze();
        }
    }

    fn thaw_files(&self) {
        if let Some(hanging) = &self.station.hanging {
            hanging.thaw();
        }
    }

    /// Another client's call to another driver is answered at once, and then the time is let pass.
    fn others_are_served(&mut self, passing: Duration) {
        if let Err(error) = self.station.must(&["relay", "on"]) {
            self.break_promise(
                Kind::Hang,
                format!("another driver is held up: {}", error.report()),
            );
        }
        pause(passing);
    }

    fn outcome(&mut self, client: &mut Client) -> Option<ExitStatus> {
        if self.action == Action::Run && !self.fault.ends_client() {
            // It would run on for ever.
            pause(Duration::from_millis(300));
            client.signal(Signal::INT);
        }
        let status = client.await_end(PATIENCE);
        if status.is_none() {
            self.break_promise(Kind::Hang, format!("the client of {} does not end", self.action));
        }
        status
    }

    /// Compares what the client said with what is there.
    fn judge(&mut self, status: Option<ExitStatus>, client: &Client) {
        let succeeded = status.is_some_and(|status| status.success());
        let said = client.said();
        match self.action {
            Action::FlashMedium => {
                if succeeded {
                    self.medium.remove(0);
                }
                let kind = if succeeded { Kind::FalseSuccess } else { Kind::LostImage };
                if !self.medium_is_expected() {
                    self.break_promise(kind, format!("the medium holds something else ({said})"));
                }
            }
            Action::FlashRoot if succeeded => drop(self.root.remove(0)),
            Action::DumpMedium | Action::DumpRoot => {
                let dump = fs::read(self.station.dump()).unwrap_or_default();
                let expected =
                    if self.action == Action::DumpRoot { &self.root[0] } else { &self.medium[0] };
                let is_whole = dump == *expected;
                if succeeded && !is_whole {
                    self.break_promise(
                        Kind::FalseSuccess,
                        format!("the dump is something else ({said})"),
                    );
                } else if !is_whole && dump != b"an older dump" {
                    self.break_promise(
                        Kind::LostImage,
                        format!("a dump that failed left {} bytes ({said})", dump.len()),
                    );
                }
            }
            Action::Boot if succeeded && !self.fault.ends_machine() => {
                if let Err(error) = self.station.await_login() {
                    let what = format!("power-on succeeded without a login: {}", error.report());
                    self.break_promise(Kind::FalseSuccess, what);
                }
            }
            _ => {}
        }
    }

    fn medium_is_expected(&self) -> bool {
        let found = fs::read(self.station.medium()).unwrap_or_default();
        self.medium.contains(&found)
    }

    /// Uses the device once more, from the start to the end.
    fn recover(&mut self) {
        if self.fault.ends_exporter() || !self.station.is_up() {
            if !self.fault.ends_exporter() {
                self.break_promise(Kind::Unusable, "the exporter ended");
            }
            if self.station.await_end().is_none() {
                self.break_promise(Kind::Hang, "the exporter does not end after SIGTERM");
            }
            self.bury("the exporter ended");
            if let Err(error) = self.station.start() {
                return self.break_promise(Kind::Unusable, error.report().to_string());
            }
            // The root disk's images end with their exporter.
            self.root.clear();
        }
        if let Err(error) = self.use_again() {
            self.break_promise(Kind::Unusable, error.report().to_string());
        }
        if !self.medium_is_expected() {
            self.break_promise(Kind::LostImage, "the medium holds something else at the end");
        }
    }

    fn use_again(&mut self) -> Result<()> {
        self.station.must(&["qemu", "power", "off"])?;
        if !self.root.is_empty() && self.fault != Fault::RemoveFolders {
            let dump = self.station.dump().display().to_string();
            self.station.must(&["qemu", "flasher", "dump", &dump])?;
            if !self.root.contains(&fs::read(&dump)?) {
                let kind = if self.root.len() == 1 { Kind::FalseSuccess } else { Kind::LostImage };
                self.break_promise(kind, "the root disk holds something else");
            }
        }
        let (medium, root) = (self.medium_image(), self.root_image());
        self.flash("medium", &medium)?;
        self.medium = vec![medium];
        self.flash("qemu flasher", &root)?;
        self.station.must(&["qemu", "power", "on"])?;
        self.station.await_login()?;
        self.station.must(&["qemu", "power", "off"])
    }

    /// Ends the exporter, and looks for what it leaves.
    fn finish(&mut self) {
        self.station.signal_exporter(Signal::TERM);
        if self.station.await_end().is_none() {
            self.break_promise(Kind::Hang, "the exporter does not end");
        }
        self.bury("the exporter was stopped");
        let left = self.station.left_files();
        if !left.is_empty() {
            self.break_promise(Kind::LeftFile, left.join(", "));
        }
    }

    fn bury(&mut self, after: &str) {
        let orphans = self.station.orphans();
        if !orphans.is_empty() {
            let names: Vec<_> =
                orphans.iter().map(|process| format!("{} {}", process.id, process.name)).collect();
            self.break_promise(Kind::Orphan, format!("after {after}: {}", names.join(", ")));
        }
    }
}

fn pause(time: Duration) {
    blocking_eventually(time, || false);
}
