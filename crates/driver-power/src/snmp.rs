//! `snmp`: an outlet of a power distribution unit that is switched by SNMP.

mod agent;
mod config;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use agent::Agent;
pub use config::{SnmpAuthentication, SnmpPowerConfig, SnmpPrivacy, SnmpVersion};

/// How often an outlet that has not switched yet is asked for its state.
const INTERVAL: Duration = Duration::from_millis(100);

/// An outlet of a power distribution unit. Its requests are sent one after the other.
#[derive(Debug)]
pub struct SnmpPower {
    config: SnmpPowerConfig,
    agent: Agent,
    turn: Mutex<()>,
}

impl SnmpPower {
    /// Sets the outlet's object, and waits until the outlet has that state.
    async fn switch(&self, what: &str, value: i32) -> Result<()> {
        let outlet = &self.agent.outlet;
        let _turn = self.turn.lock().await;
        let limit = self.config.timeout.as_duration();
        let deadline = deadline_after(limit);
        let mut seen = None;
        let switching = timeout_at(deadline, self.set_and_see(value, &mut seen)).await;
        let switched = match (switching, seen) {
            (Ok(switched), _) => switched,
            (Err(_), Some(seen)) => {
                let message =
                    format!("the agent took the value {value}, but after {limit:?} it is {seen}");
                Err(Error::failed_precondition(message).with_hint(
                    "check `oid`, `plug`, `on_value` and `off_value`; raise `timeout` if the outlet \
                     switches with a delay; set `state_oid` if its state is another object",
                ))
            }
            (Err(_), None) => Err(self.agent.silent(limit)),
        };
        switched.with_context(|| format!("switching {outlet} of {} {what}", self.agent))?;
        tracing::info!("power {what}: {outlet} of {}", self.agent);
        Ok(())
    }

    async fn set_and_see(&self, value: i32, seen: &mut Option<i64>) -> Result<()> {
        let session = self.agent.connect().await?;
        session.set(&self.agent.outlet, value).await?;
        loop {
            let state = session.integer(&self.agent.state).await?;
            *seen = Some(state);
            if state == i64::from(value) {
                return Ok(());
            }
            sleep(INTERVAL).await;
        }
    }

    async fn reading(&self, deadline: Instant) -> Result<PowerReading> {
        let reading = async {
            let session = self.agent.connect().await?;
            let figure = async |object: &Option<_>, scale: f64| match object {
                Some(object) => Ok::<_, Error>(session.number(object).await? * scale),
                None => Ok(0.0),
            };
            Ok(PowerReading {
                voltage: figure(&self.agent.voltage, self.config.voltage_scale).await?,
                current: figure(&self.agent.current, self.config.current_scale).await?,
            })
        };
        match timeout_at(deadline, reading).await {
            Ok(reading) => reading,
            Err(_) => Err(self.agent.silent(self.config.timeout.as_duration())),
        }
    }
}

#[async_trait]
impl Driver for SnmpPower {
    interfaces!(Power);

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_snmp.client.SNMPServerClient")
    }

    async fn reset(&self) -> Result<()> {
        self.config.close.apply(self).await
    }

    async fn close(&self) -> Result<()> {
        self.config.close.apply(self).await
    }
}

#[async_trait]
impl Power for SnmpPower {
    async fn on(&self) -> Result<()> {
        self.switch("on", self.config.on_value).await
    }

    async fn off(&self) -> Result<()> {
        self.switch("off", self.config.off_value).await
    }

    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        if self.agent.voltage.is_none() && self.agent.current.is_none() {
            return Err(Error::unimplemented("this switch measures nothing")
                .with_hint("name the objects of its meter: `voltage_oid` and `current_oid`"));
        }
        let _turn = self.turn.lock().await;
        let reading = self.reading(deadline_after(self.config.timeout.as_duration())).await;
        let reading = reading.with_context(|| format!("reading {}", self.agent))?;
        Ok(stream::iter([Ok(reading)]).boxed())
    }
}
