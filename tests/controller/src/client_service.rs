//! ClientService: exporters and leases for clients, and their tokens.
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use tonic::{Request, Response, Status, async_trait};

use crate::auth::{Caller, Kind, authenticate};
use crate::lease::{ENDED, Lease, TAGS, Times, at, check_object, check_tags};
use crate::names;
use crate::proto::client_v1::client_service_server::ClientService;
use crate::proto::client_v1::{
    CreateLeaseRequest, DeleteLeaseRequest, Exporter, GetExporterRequest, GetLeaseRequest,
    Lease as LeaseMessage, ListExportersRequest, ListExportersResponse, ListLeasesRequest,
    ListLeasesResponse, RotateTokenRequest, RotateTokenResponse, UpdateLeaseRequest,
};
use crate::selector::{Labels, Selector};
use crate::state::{Core, Key, State, not_found};
use crate::token::uuid;

/// What the token of a page begins with, before it is encoded.
const PAGE: &str = "continue after ";

#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Core>);

impl Service {
    /// The caller, which has to be a client of `namespace`.
    fn caller<T>(&self, request: &Request<T>, namespace: &str) -> Result<Caller, Status> {
        let caller = authenticate(&self.0.read(), request.metadata(), &[Kind::Client])?;
        caller.must_be_in(namespace)?;
        Ok(caller)
    }
}

#[async_trait]
impl ClientService for Service {
    async fn get_exporter(
        &self,
        request: Request<GetExporterRequest>,
    ) -> Result<Response<Exporter>, Status> {
        let (namespace, name) = names::parse(&request.get_ref().name, "exporters")?;
        self.caller(&request, namespace)?;
        let state = self.0.read();
        state.exporter(namespace, name)?;
        let key = (namespace.to_owned(), name.to_owned());
        Ok(Response::new(show(&state, &key, request.get_ref().show_hidden_labels)))
    }

    async fn list_exporters(
        &self,
        request: Request<ListExportersRequest>,
    ) -> Result<Response<ListExportersResponse>, Status> {
        let namespace = names::parse_namespace(&request.get_ref().parent)?;
        self.caller(&request, namespace)?;
        let asked = request.get_ref();
        let filter = Selector::parse(&asked.filter).map_err(Status::unknown)?;
        let state = self.0.read();
        let matching = state
            .exporters
            .range(after(namespace, &asked.page_token)?)
            .take_while(|((each, _), _)| each == namespace)
            .filter(|(_, exporter)| filter.matches(&exporter.labels))
            .map(|(key, _)| (key, show(&state, key, asked.show_hidden_labels)));
        let (exporters, next_page_token) = page(matching, asked.page_size);
        Ok(Response::new(ListExportersResponse { exporters, next_page_token }))
    }

    async fn get_lease(
        &self,
        request: Request<GetLeaseRequest>,
    ) -> Result<Response<LeaseMessage>, Status> {
        let (namespace, name) = names::parse(&request.get_ref().name, "leases")?;
        self.caller(&request, namespace)?;
        let state = self.0.read();
        Ok(Response::new(state.lease(namespace, name)?.to_message(&state)))
    }

    async fn list_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        let namespace = names::parse_namespace(&request.get_ref().parent)?;
        self.caller(&request, namespace)?;
        let asked = request.get_ref();
        let filter = Selector::parse(&asked.filter).map_err(Status::unknown)?;
        let tags = Selector::parse(&asked.tag_filter)
            .map_err(|error| Status::invalid_argument(format!("invalid tag_filter: {error}")))?
            .with_prefix(TAGS);
        let only_active = asked.only_active.unwrap_or(true);
        let fits = |labels: &Labels| {
            filter.matches(labels)
                && tags.matches(labels)
                && !(only_active && labels.contains_key(ENDED))
        };
        let state = self.0.read();
        let matching = state
            .leases
            .range(after(namespace, &asked.page_token)?)
            .take_while(|((each, _), _)| each == namespace)
            .filter(|(_, lease)| fits(&lease.labels()))
            .map(|(key, lease)| (key, lease.to_message(&state)));
        let (leases, next_page_token) = page(matching, asked.page_size);
        Ok(Response::new(ListLeasesResponse { leases, next_page_token }))
    }

    async fn create_lease(
        &self,
        request: Request<CreateLeaseRequest>,
    ) -> Result<Response<LeaseMessage>, Status> {
        let Some(asked) = request.get_ref().lease.clone() else {
            return Err(Status::invalid_argument("lease is required"));
        };
        let exporter_name = asked.exporter_name.clone().filter(|name| !name.is_empty());
        if asked.selector.is_empty() && exporter_name.is_none() {
            let what = "one of selector or exporter_name is required";
            return Err(Status::invalid_argument(what));
        }
        let namespace = names::parse_namespace(&request.get_ref().parent)?;
        let caller = self.caller(&request, namespace)?;
        check_tags(asked.tags.iter())?;
        let selector = Selector::parse_of_lease(&asked.selector).map_err(Status::unknown)?;
        let times = Times::of(&asked)?;
        let lease_id = request.get_ref().lease_id.clone();
        self.0.change(|state| {
            let name = match lease_id.as_str() {
                "" => uuid(7, state.clock.seconds()),
                some => some.to_owned(),
            };
            let context = asked.context.into_iter().collect();
            check_object(&name, &context)?;
            let key = (caller.namespace, name.clone());
            if state.leases.contains_key(&key) {
                let what = format!("leases.jumpstarter.dev {name:?} already exists");
                return Err(Status::unknown(what));
            }
            let mut lease = Lease::new(&key, caller.name, selector, times);
            lease.exporter_name = exporter_name;
            lease.tags = asked.tags.into_iter().collect();
            lease.context = context;
            lease.allow_disabled = asked.allow_disabled;
            let message = lease.to_message(state);
            state.leases.insert(key, lease);
            Ok(Response::new(message))
        })
    }

    async fn update_lease(
        &self,
        request: Request<UpdateLeaseRequest>,
    ) -> Result<Response<LeaseMessage>, Status> {
        let Some(asked) = request.get_ref().lease.clone() else {
            return Err(Status::invalid_argument("lease is required"));
        };
        let (namespace, name) = names::parse(&asked.name, "leases")?;
        let caller = self.caller(&request, namespace)?;
        self.0.change(|state| {
            if state.lease(namespace, name)?.client != caller.name {
                return Err(Status::unknown("UpdateLease permission denied"));
            }
            let mut changed = state.lease(namespace, name)?.clone();
            change_times(&mut changed, &asked)?;
            if let Some(target) = asked.client.as_ref().filter(|target| !target.is_empty()) {
                transfer(state, &mut changed, target)?;
            }
            let message = changed.to_message(state);
            state.leases.insert((namespace.to_owned(), name.to_owned()), changed);
            Ok(Response::new(message))
        })
    }

    async fn delete_lease(
        &self,
        request: Request<DeleteLeaseRequest>,
    ) -> Result<Response<()>, Status> {
        let full = &request.get_ref().name;
        let (namespace, name) = names::parse(full, "leases")?;
        let caller = self.caller(&request, namespace)?;
        self.0.change(|state| {
            let lease = state.lease_mut(namespace, name)?;
            if lease.client != caller.name {
                return Err(Status::unknown("DeleteLease permission denied"));
            }
            if lease.release {
                let what = format!("lease {full:?} has already been released");
                return Err(Status::failed_precondition(what));
            }
            lease.release = true;
            Ok(Response::new(()))
        })
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<RotateTokenResponse>, Status> {
        let namespace = names::parse_namespace(&request.get_ref().parent)?;
        let caller = self.caller(&request, namespace)?;
        let state = self.0.read();
        let life = state.options.token_life.as_secs().cast_signed();
        let token = state
            .token(Kind::Client, &caller.key(), life)
            .ok_or_else(|| not_found("clients", &caller.name))?;
        let expiry = Some(at(state.clock.seconds() + life));
        Ok(Response::new(RotateTokenResponse { token, expiry }))
    }
}

/// Changes the times that a request names. They are checked as those of a new lease are.
fn change_times(lease: &mut Lease, asked: &LeaseMessage) -> Result<(), Status> {
    if asked.duration.is_none() && asked.begin_time.is_none() && asked.end_time.is_none() {
        return Ok(());
    }
    let times = Times::of(asked)?;
    let begin = asked.begin_time.as_ref().map(|begin| begin.seconds);
    if begin.is_some() && begin != lease.times.begin {
        if lease.exporter.is_some() {
            let what = "cannot update BeginTime: lease has already started";
            return Err(Status::unknown(what));
        }
        lease.times.begin = begin;
    }
    let end = asked.end_time.as_ref().map(|end| end.seconds);
    if let (Some(begin), Some(end)) = (lease.times.begin, end.or(lease.times.end))
        && i128::from(end - begin) * 1_000_000_000 != times.duration
    {
        return Err(Status::unknown("duration conflicts with BeginTime and EndTime"));
    }
    lease.times.duration = times.duration;
    lease.times.end = end.or(lease.times.end);
    Ok(())
}

/// Hands a lease to another client, which may be in the same namespace only.
fn transfer(state: &State, lease: &mut Lease, target: &str) -> Result<(), Status> {
    let (namespace, name) = names::parse(target, "clients")?;
    if namespace != lease.namespace {
        return Err(Status::unknown("cannot transfer a lease to another namespace"));
    }
    if !state.clients.contains_key(&(namespace.to_owned(), name.to_owned())) {
        let cause = not_found("clients", name);
        let what = format!("target client not found: {}", cause.message());
        return Err(Status::unknown(what));
    }
    if name == lease.client {
        return Ok(());
    }
    if lease.exporter.is_none() || lease.ended {
        return Err(Status::unknown("cannot transfer a lease that is not active"));
    }
    name.clone_into(&mut lease.client);
    Ok(())
}

/// An exporter, without the labels that are hidden.
fn show(state: &State, key: &Key, with_hidden: bool) -> Exporter {
    let exporter = &state.exporters[key];
    let options = &state.options;
    let deprecated = exporter
        .labels
        .keys()
        .filter_map(|key| Some((key.clone(), options.deprecated_labels.get(key)?.clone())))
        .collect();
    let is_shown = |key: &String| {
        with_hidden
            || !options.hidden_labels.contains(key) && !options.deprecated_labels.contains_key(key)
    };
    let labels = exporter.labels.clone().into_iter().filter(|(key, _)| is_shown(key)).collect();
    #[expect(deprecated, reason = "the controller still sends it")]
    Exporter {
        name: names::full(&key.0, "exporters", &key.1),
        labels,
        online: exporter.online,
        status: exporter.status.into(),
        status_message: exporter.message.clone(),
        enabled: Some(exporter.enabled),
        deprecated_labels: deprecated,
    }
}

/// The keys that follow those of the page before.
fn after(namespace: &str, token: &str) -> Result<(Bound<Key>, Bound<Key>), Status> {
    let key = |name: String| (namespace.to_owned(), name);
    if token.is_empty() {
        return Ok((Bound::Included(key(String::new())), Bound::Unbounded));
    }
    let text = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match text.as_deref().and_then(|text| text.strip_prefix(PAGE)) {
        Some(name) => Ok((Bound::Excluded(key(name.to_owned())), Bound::Unbounded)),
        None => Err(Status::unknown(format!("invalid continue token: {token:?} is not valid"))),
    }
}

/// The first `size` of the matching objects, all of them for 0, and the token of the next page.
fn page<'a, T>(matching: impl Iterator<Item = (&'a Key, T)>, size: i32) -> (Vec<T>, String) {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
    let mut matching = matching.peekable();
    let (mut shown, mut token) = (Vec::new(), String::new());
    while let Some((key, each)) = matching.next() {
        shown.push(each);
        if shown.len() == size && matching.peek().is_some() {
            token = BASE64.encode(format!("{PAGE}{}", key.1));
            break;
        }
    }
    (shown, token)
}
