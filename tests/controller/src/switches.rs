//! What tests switch: answers that are refused, lost or late, and what they count.
use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use tonic::Code;

use crate::auth::claimed_name;
use crate::proto::v1::ExporterStatus;

/// What the controller does with a call instead of answering it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It refuses the call, which changes nothing.
    Refuse(Code, String),
    /// It performs the call, and the answer is lost: the caller sees this error.
    Lose(Code, String),
    /// It performs the call so much later.
    Delay(Duration),
    /// It never answers.
    Silence,
}

/// Which calls are answered otherwise.
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    caller: Option<String>,
    times: Option<u32>,
    answer: Answer,
}

impl Rule {
    /// A rule for the calls of a method, as `ReportStatus` or, where two services have the name,
    /// `ClientService/GetLease`; for all calls if it is empty.
    pub fn new(method: &str, answer: Answer) -> Self {
        Self { method: method.to_owned(), caller: None, times: None, answer }
    }

    /// A controller that does not have the method yet.
    pub fn missing(method: &str) -> Self {
        let name = method.rsplit('/').next().unwrap_or(method);
        Self::new(method, Answer::Refuse(Code::Unimplemented, format!("unknown method {name}")))
    }

    /// A full Listen queue.
    pub fn full_queue() -> Self {
        let what = "listen queue is full".to_owned();
        Self::new("Dial", Answer::Refuse(Code::ResourceExhausted, what))
    }

    /// A token that the controller does not take, with the error of an expired one.
    pub fn expired_token(caller: &str) -> Self {
        let what =
            "oidc: verify token: oidc: token is expired (Token Expiry: 2026-01-01T00:00:00Z)";
        Self::new("", Answer::Refuse(Code::Unknown, what.to_owned())).from(caller)
    }

    /// Only the calls of the client or exporter of this name.
    #[must_use]
    pub fn from(mut self, caller: &str) -> Self {
        self.caller = Some(caller.to_owned());
        self
    }

    /// Only the next `times` calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn concerns(&self, call: &str, headers: &HeaderMap) -> bool {
        let of_method = self.method.is_empty()
            || call == self.method
            || call.rsplit('/').next() == Some(&self.method);
        of_method
            && self.times != Some(0)
            && self.caller.as_deref().is_none_or(|caller| claimed_name(headers) == Some(caller))
    }
}

/// A status that an exporter has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub exporter: String,
    /// The status.
    pub status: ExporterStatus,
    /// The text beside it.
    pub message: String,
    /// Whether the report released the lease.
    pub release: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Switches {
    pub(crate) rules: Vec<Rule>,
    /// Calls so far, by `Service/Method` and caller.
    pub(crate) calls: BTreeMap<(String, String), u64>,
    pub(crate) reports: Vec<Report>,
    /// Whether Status streams see only the last of several changes that happen at once.
    pub(crate) joins_messages: bool,
}

impl Switches {
    /// Counts a call, and says how it is answered otherwise.
    pub(crate) fn note(&mut self, call: &str, headers: &HeaderMap) -> Option<Answer> {
        let caller = claimed_name(headers).unwrap_or_default().to_owned();
        *self.calls.entry((call.to_owned(), caller)).or_default() += 1;
        let rule = self.rules.iter_mut().find(|rule| rule.concerns(call, headers))?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.answer.clone())
    }
}
