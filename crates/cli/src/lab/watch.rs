//! `--watch`: a list, and then a line for each change.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use jumpstarter_controller::Refusal;
use jumpstarter_driver_core::{Error, ErrorKind};
use serde_json::Value;

use super::printed::{Form, Objects};
use crate::environment::Environment;
use crate::fault::{Fault, Result};
use crate::j::interrupt::Signals;
use crate::print;
use crate::table::Columns;

/// How often the controller is asked: it has no call that reports changes to a client.
const INTERVAL: Duration = Duration::from_secs(2);

impl<T> Objects<'_, T> {
    /// Prints the objects, and then each one that is new, has changed or is removed, until a
    /// signal. `again` looks for one that is not listed any more. A controller that is away is
    /// waited for.
    ///
    /// # Errors
    /// Those of the first list; later ones unless the controller is away.
    pub(super) async fn watch(
        &self,
        list: impl AsyncFn() -> Result<Vec<T>>,
        again: impl AsyncFn(&T) -> Option<T>,
        form: Form,
        environment: &Environment,
    ) -> Result<u8> {
        let mut signals = Signals::install()?;
        let watching = pin!(self.follow(list, again, form, environment));
        tokio::select! {
            watched = watching => watched,
            code = signals.next() => Ok(code),
        }
    }

    async fn follow(
        &self,
        list: impl AsyncFn() -> Result<Vec<T>>,
        again: impl AsyncFn(&T) -> Option<T>,
        form: Form,
        environment: &Environment,
    ) -> Result<u8> {
        let mut known = list().await?;
        let mut rows = vec![self.heads()];
        rows.extend(known.iter().map(|object| (self.row)(object)));
        let columns = Columns::of(&rows);
        let mut line = Line { objects: self, form, environment, columns };
        line.head()?;
        for object in &known {
            line.print(object, false)?;
        }
        let mut is_away = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let found = match list().await {
                Ok(found) => found,
                Err(Fault::Failed(error)) if is_passing(&error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        let error = print::line(&format!("{error:#}")).into_owned();
                        environment.report(format_args!("waiting for the controller: {error}"));
                    }
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            if std::mem::take(&mut is_away) {
                environment.report("the controller answers again");
            }
            for object in &found {
                let last = known.iter().find(|last| self.is_same(last, object));
                if last.is_none_or(|last| self.lasting(last) != self.lasting(object)) {
                    line.print(object, false)?;
                }
            }
            for gone in known.iter().filter(|old| !found.iter().any(|new| self.is_same(old, new))) {
                match again(gone).await {
                    Some(now) => line.print(&now, false)?,
                    None => line.print(gone, true)?,
                }
            }
            known = found;
        }
    }

    fn is_same(&self, one: &T, other: &T) -> bool {
        (self.name)(one) == (self.name)(other)
    }

    /// What of an object counts as a change.
    fn lasting(&self, object: &T) -> Value {
        let mut value = (self.json)(object);
        for path in ["", "/lease"] {
            if let Some(fields) = value.pointer_mut(path).and_then(Value::as_object_mut) {
                fields.remove("effective_duration");
            }
        }
        value
    }
}

/// How the lines of a list are printed that goes on.
struct Line<'a, T> {
    objects: &'a Objects<'a, T>,
    form: Form,
    environment: &'a Environment,
    /// As wide as in the first list, and as later objects need.
    columns: Columns,
}

impl<T> Line<'_, T> {
    fn head(&mut self) -> Result<()> {
        match self.form {
            Form::Text | Form::Wide => {
                let head = self.columns.line(&self.objects.heads(), self.environment.width());
                self.write(&head)
            }
            _ => Ok(()),
        }
    }

    fn print(&mut self, object: &T, is_deleted: bool) -> Result<()> {
        let value = || {
            let mut value = (self.objects.json)(object);
            if is_deleted {
                value["deleted"] = true.into();
            }
            value
        };
        let text = match self.form {
            Form::Json => print::json(&value())? + "\n",
            Form::Yaml => format!("---\n{}", print::yaml(&value())?),
            Form::Name => format!("{}\n", print::line((self.objects.name)(object))),
            Form::Text | Form::Wide => {
                let mut row = (self.objects.row)(object);
                row.extend(is_deleted.then(|| "deleted".to_owned()));
                self.columns.line(&row, self.environment.width())
            }
        };
        self.write(&text)
    }

    fn write(&self, text: &str) -> Result<()> {
        let mut out = self.environment.out();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

/// Whether the controller may answer again.
fn is_passing(error: &Error) -> bool {
    Refusal::of(error).is_none()
        && matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Unknown
        )
}
