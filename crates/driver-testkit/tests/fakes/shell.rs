//! A driver with one method, which runs no program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::prelude::*;

super::fake!(ShellConfig, "fake-shell", ShellFake);

pub(crate) struct ShellFake {
    fault: String,
    running: Arc<AtomicUsize>,
}

/// Counts itself, until its output was read to the end.
struct Program(Arc<AtomicUsize>);

impl ShellFake {
    pub(crate) fn open(fault: String) -> Self {
        Self { fault, running: Arc::default() }
    }

    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Driver for ShellFake {
    interfaces!(Shell);

    fn methods_description(&self) -> Vec<(String, String)> {
        let method = if self.is("describes more") { "shout" } else { "greet" };
        vec![(method.to_owned(), "Says hello".to_owned())]
    }
}

#[async_trait]
impl Shell for ShellFake {
    async fn get_methods(&self) -> Result<Vec<String>> {
        Ok(vec!["greet".to_owned()])
    }

    async fn call_method(
        &self,
        method: String,
        env: Option<BTreeMap<String, String>>,
        _: Rest<String>,
    ) -> Result<ValueStream<ShellOutput>> {
        if method != "greet" && !self.is("any method") {
            return Err(Error::invalid_argument("there is one method"));
        }
        if env.is_some_and(|env| !env.is_empty()) && !self.is("any variable") {
            return Err(Error::invalid_argument("no variable is allowed"));
        }
        if self.is("stuck after a drop") && self.running.load(SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        self.running.fetch_add(1, SeqCst);
        let program = Program(self.running.clone());
        let exit_code = if self.is("no code") { None } else { Some(0) };
        let said = ShellOutput { stdout: "hello\n".to_owned(), ..ShellOutput::default() };
        let end = ShellOutput { exit_code, ..ShellOutput::default() };
        let rows = stream::iter([said, end]).chain(stream::once(async move {
            program.0.fetch_sub(1, SeqCst);
            ShellOutput::default()
        }));
        Ok(rows
            .take_while(|row| std::future::ready(*row != ShellOutput::default()))
            .map(Ok)
            .boxed())
    }
}
