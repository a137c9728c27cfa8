//! Cases of a virtual device's switch.

use jumpstarter_driver_core::Result;
use serde_json::{Value, json};

use crate::case::{MustSucceed, Outcome};
use crate::instance::Instance;

/// VIRTUAL-1: `on` succeeds when on, and `off` when off, also before the first `on`.
pub(crate) async fn switches_are_idempotent(instance: &Instance) -> Outcome {
    for (method, what) in [
        ("off", "`off` before any `on`"),
        ("on", "`on`"),
        ("on", "`on` when on"),
        ("off", "`off`"),
        ("off", "`off` when off"),
    ] {
        instance.doing(what);
        switch(instance, method, vec![]).await.must(what)?;
    }
    Ok(())
}

/// VIRTUAL-2: a device that `off(destroy)` destroyed is made again by `on`, and can be destroyed
/// again, also when it is off.
pub(crate) async fn destroyed_device_is_made_again(instance: &Instance) -> Outcome {
    for _ in 0..2 {
        instance.doing("`on`");
        switch(instance, "on", vec![]).await.must("`on` of a destroyed device")?;
        for what in ["`off(destroy)`", "`off(destroy)` of a destroyed device"] {
            instance.doing(what);
            switch(instance, "off", vec![json!(true)]).await.must(what)?;
        }
    }
    switch(instance, "off", vec![json!(false)]).await.must("`off` of a destroyed device")
}

async fn switch(instance: &Instance, method: &str, arguments: Vec<Value>) -> Result<()> {
    instance.invoke(method, arguments).await?.into_value()
}
