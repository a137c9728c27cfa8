//! `python`: drivers in Python, each hosted in a separate process.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jumpstarter_client::{Address, ConnectOptions, Exporter, connect};
use jumpstarter_driver_core::Mount;
use jumpstarter_driver_core::prelude::*;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::interpreter;
use crate::process::{HostProcess, Wanted};
use crate::remote::NO_LIMIT;
use crate::server::{Key, Server};

/// Resetting its drivers may take a process so long.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A process that has started answers within that time.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A driver in Python, hosted in a separate process, with the packages of Jumpstarter in Python.
///
/// It is not written by this name: an entry whose `type` is the import path of a class that this
/// program lacks, or one with `python: true`, is hosted.
#[config]
#[derive(Clone, Debug)]
pub struct HostedConfig {
    /// The import path of the driver's class.
    pub class: String,
    /// The path of the entry, from the root.
    pub place: String,
    /// The number of the process among those of the file.
    pub process: usize,
    /// What the process hosts, by name.
    pub tree: HostedTree,
    /// Import paths of all drivers of the file that are hosted: their modules are imported once.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The interpreter that the file names.
    #[serde(default)]
    pub python: Option<String>,
    /// The folder of the file.
    #[serde(default)]
    pub folder: Option<PathBuf>,
}

/// Entries of an exporter file as they are written there; they may hold secrets.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HostedTree(pub(crate) Value);

impl std::fmt::Debug for HostedTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostedTree(***)")
    }
}

#[async_trait]
impl DriverConfig for HostedConfig {
    const NAME: &'static str = "python";
    const HOSTS_OTHERS: bool = true;
    const IS_INDEPENDENT: bool = true;
    type Driver = Hosted;

    fn children(&self) -> Option<Vec<PlannedChild>> {
        None
    }

    async fn open(self, context: OpenContext) -> Result<Hosted> {
        let host = context.shared::<Hosts>().of(&self).await?;
        let mount = host.mount.branch(&self.place)?;
        host.members.lock().await.insert(self.place.clone());
        Ok(Hosted { host, place: self.place, mount })
    }
}

register_driver!(HostedConfig);

/// The processes of a device while it is opened, by their numbers in the file. Those that host
/// several entries start with the first of them.
#[derive(Default)]
struct Hosts(StdMutex<HashMap<usize, Starting>>);

type Starting = Shared<BoxFuture<'static, Result<Arc<Host>, Arc<Error>>>>;

impl Hosts {
    async fn of(&self, config: &HostedConfig) -> Result<Arc<Host>> {
        let starting = {
            let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let start = || {
                let config = config.clone();
                async move { Host::start(&config).await.map(Arc::new).map_err(Arc::new) }
            };
            hosts.entry(config.process).or_insert_with(|| start().boxed().shared()).clone()
        };
        starting.await.map_err(|error| error.again())
    }
}

/// What a process hosts: one driver of the file, or several that refer to one another.
#[derive(Debug)]
struct Host {
    key: Key,
    modules: BTreeSet<String>,
    wanted: Wanted,
    mount: Mount,
    link: Mutex<Link>,
    /// The drivers that are not closed.
    members: Mutex<BTreeSet<String>>,
}

/// A process, and the connection to it.
#[derive(Debug)]
struct Link {
    process: Arc<HostProcess>,
    exporter: Exporter,
}

impl Host {
    async fn start(config: &HostedConfig) -> Result<Self> {
        let python = interpreter::choose(config.python.as_deref());
        let key = Key { python, folder: config.folder.clone() };
        let modules = config.classes.iter().map(|class| interpreter::module_of(class).to_owned());
        let modules: BTreeSet<String> = modules.collect();
        let wanted = Wanted { tree: config.tree.clone(), place: config.place.clone() };
        let link = Link::open(&key, &modules, &wanted).await?;
        let mount = link.exporter.device().mount("")?;
        let (link, members) = (Mutex::new(link), Mutex::default());
        Ok(Self { key, modules, wanted, mount, link, members })
    }

    /// Resets the driver at `reset`, if one is said; starts a new process where the one before has
    /// ended, does not answer, or has modules that have changed.
    async fn renew(&self, reset: Option<&str>) -> Result<()> {
        let mut link = self.link.lock().await;
        if !link.process.has_ended() {
            let place = &self.wanted.place;
            if link.process.is_stale().await {
                tracing::info!("a module of `{place}` has changed: it is opened again");
                // The new process may need what the old one has open.
                if let Err(error) = link.close().await {
                    tracing::warn!(error = error.report(), "closing `{place}`");
                }
            } else {
                let answer = tokio::time::timeout(ANSWER_LIMIT, link.process.reset(reset)).await;
                if let Ok(outcome) = answer {
                    return outcome;
                }
                let limit = ANSWER_LIMIT.as_secs();
                tracing::warn!("`{place}` does not answer within {limit} s: it is opened again");
                link.process.kill().await;
            }
        }
        let next = Link::open(&self.key, &self.modules, &self.wanted).await?;
        next.exporter.device().remount(&self.mount)?;
        *link = next;
        Ok(())
    }
}

impl Link {
    async fn open(key: &Key, modules: &BTreeSet<String>, wanted: &Wanted) -> Result<Self> {
        let process = Arc::new(start(key, modules, wanted).await?);
        let options = ConnectOptions::new(Address::Unix(process.socket.clone()))
            .connect_timeout(CONNECT_LIMIT)
            .call_timeout(NO_LIMIT)
            .explained_by(process.explanation());
        let exporter = connect(&options).await?;
        Ok(Self { process, exporter })
    }

    /// The process closes its drivers, and ends.
    async fn close(&self) -> Result<()> {
        let closed = self.exporter.device().close().await;
        self.process.close().await.and(closed)
    }
}

/// Starts a process that has the modules as they are now.
async fn start(key: &Key, modules: &BTreeSet<String>, wanted: &Wanted) -> Result<HostProcess> {
    let mut server = Server::of(key, modules).await?;
    if server.is_stale().await {
        server.retire(key).await;
        server = Server::of(key, modules).await?;
    }
    HostProcess::start(server, wanted).await
}

/// Stands for a driver in Python.
#[derive(Debug)]
pub struct Hosted {
    host: Arc<Host>,
    place: String,
    mount: Mount,
}

#[async_trait]
impl Driver for Hosted {
    fn mount(&self) -> Option<Mount> {
        Some(self.mount.clone())
    }

    /// Resets the driver, or starts a new process where [`renew`](Driver::renew) does.
    async fn reset(&self) -> Result<()> {
        self.host.renew(Some(&self.place)).await
    }

    /// Starts a new process where the one before has ended, or has modules that have changed.
    async fn renew(&self) -> Result<()> {
        self.host.renew(None).await
    }

    /// The process closes its drivers, and ends, when the last of them is closed.
    async fn close(&self) -> Result<()> {
        let mut members = self.host.members.lock().await;
        members.remove(&self.place);
        if !members.is_empty() {
            return Ok(());
        }
        self.host.link.lock().await.close().await
    }
}
