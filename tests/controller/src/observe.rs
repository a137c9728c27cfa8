//! What tests see of a controller: its objects, who is connected, and what was called.
use crate::controller::TestController;
use crate::proto::client_v1;
use crate::proto::v1::ExporterStatus;
use crate::switches::Report;

impl TestController {
    /// How often a method was called, as `ReportStatus` or `ClientService/GetLease`.
    pub fn calls(&self, method: &str) -> u64 {
        self.count(method, None)
    }

    /// How often one caller called a method.
    pub fn calls_of(&self, method: &str, caller: &str) -> u64 {
        self.count(method, Some(caller))
    }

    fn count(&self, method: &str, caller: Option<&str>) -> u64 {
        let state = self.core.read();
        let concerns = |call: &str, by: &str| {
            (call == method || call.rsplit('/').next() == Some(method))
                && caller.is_none_or(|caller| caller == by)
        };
        let calls = state.switches.calls.iter();
        calls.filter(|((call, by), _)| concerns(call, by)).map(|(_, count)| count).sum()
    }

    /// What an exporter has reported so far, without the reports that a rule refused.
    pub fn reports(&self, exporter: &str) -> Vec<Report> {
        let state = self.core.read();
        state.switches.reports.iter().filter(|r| r.exporter == exporter).cloned().collect()
    }

    /// The names of all exporters.
    pub fn exporters(&self) -> Vec<String> {
        self.core.read().exporters.keys().map(|(_, name)| name.clone()).collect()
    }

    /// The stored status of an exporter.
    pub fn status_of(&self, exporter: &str) -> Option<ExporterStatus> {
        let state = self.core.read();
        Some(state.exporters.get(&state.key(exporter))?.status)
    }

    /// Whether an exporter has registered and counts as online.
    pub fn is_online(&self, exporter: &str) -> bool {
        let state = self.core.read();
        state.exporters.get(&state.key(exporter)).is_some_and(|e| e.online && e.devices > 0)
    }

    /// The lease that an exporter has.
    pub fn lease_of(&self, exporter: &str) -> Option<String> {
        let state = self.core.read();
        state.exporters.get(&state.key(exporter))?.lease.clone()
    }

    /// A lease, as ClientService shows it.
    pub fn lease(&self, name: &str) -> Option<client_v1::Lease> {
        let state = self.core.read();
        Some(state.leases.get(&state.key(name))?.to_message(&state))
    }

    /// The names of all leases, or of those that are not over.
    pub fn leases(&self, only_active: bool) -> Vec<String> {
        let state = self.core.read();
        let leases = state.leases.values().filter(|lease| !(only_active && lease.ended));
        leases.map(|lease| lease.name.clone()).collect()
    }

    /// Whether a Status stream of an exporter is open.
    pub fn has_status_stream(&self, exporter: &str) -> bool {
        let state = self.core.read();
        state.is_watched(&state.key(exporter))
    }

    /// Whether a Listen stream of a lease is open.
    pub fn has_listener(&self, lease: &str) -> bool {
        let state = self.core.read();
        state.listeners.get(&state.key(lease)).is_some_and(|listener| !listener.is_closed())
    }

    /// How many calls of the router wait for their other side, and how many pairs are joined.
    pub fn router_streams(&self) -> (usize, usize) {
        self.streams.count()
    }
}
