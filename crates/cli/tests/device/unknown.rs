//! A device with a third party's driver: this program links it, and `j` knows nothing of it.

use futures_util::{StreamExt, stream};
use insta::assert_snapshot;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_power as _;

use crate::served::Served;

/// A lamp that signals.
#[interface(name = "acme-lamp", client = "acme_driver.client.LampClient")]
trait Lamp {
    /// Blinks so often.
    async fn blink(&self, times: u32, colour: Option<String>) -> Result<String>;

    /// Streams how bright it is.
    async fn brightness(&self) -> Result<ValueStream<f64>>;

    /// Opens the lamp's own console.
    async fn talk(&self) -> Result<Channel>;
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcmeConfig {}

#[derive(Debug)]
struct Acme;

#[async_trait]
impl DriverConfig for AcmeConfig {
    const NAME: &'static str = "acme-lamp";
    type Driver = Acme;

    async fn open(self, _: OpenContext) -> Result<Acme> {
        Ok(Acme)
    }
}
register_driver!(AcmeConfig);

impl Driver for Acme {
    interfaces!(Lamp);
}

#[async_trait]
impl Lamp for Acme {
    async fn blink(&self, times: u32, colour: Option<String>) -> Result<String> {
        match times {
            0 => Err(Error::invalid_argument("it blinks at least once")),
            _ => Ok(format!("{times} times {}", colour.as_deref().unwrap_or("white"))),
        }
    }

    async fn brightness(&self) -> Result<ValueStream<f64>> {
        Ok(stream::iter([Ok(0.5), Ok(1.0)]).boxed())
    }

    async fn talk(&self) -> Result<Channel> {
        let (here, there) = Channel::pair(jumpstarter_driver_core::Framing::Bytes);
        tokio::spawn(async move {
            let (mut reader, mut writer) = there.split();
            while let Ok(Some(bytes)) = reader.receive().await {
                if writer.send(bytes.to_ascii_uppercase()).await.is_err() {
                    return;
                }
            }
        });
        Ok(here)
    }
}

const FILE: &str = "
export:
  power: {type: mock-power}
  acme:
    type: acme-lamp
    description: The lamp over the door
    methods_description: {blink: Blinks TIMES times in a COLOUR, brightness: Streams how bright it is}
";

/// Its exporter, in this process.
async fn served() -> Served {
    let config = jumpstarter_config::ExporterConfig::parse(FILE, "acme.yaml").unwrap();
    Served::device(config.open().await.unwrap()).await
}

#[tokio::test]
async fn the_tree_shows_its_client_class() {
    let served = served().await;
    assert_snapshot!(served.j(&["tree"]).await, @r"
    power  power
    acme   acme-lamp  The lamp over the door
    ");
}

#[tokio::test]
async fn help_is_what_the_exporter_file_says() {
    let served = served().await;
    assert_snapshot!(served.j(&["acme", "--help"]).await, @r"
    The lamp over the door

    Usage: j acme [OPTIONS] <VERB>

    Commands:
      blink       Blinks TIMES times in a COLOUR
      brightness  Streams how bright it is
      talk        Opens the lamp's own console

    Options:
          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(served.j(&["acme"]).await, @r"
    --- stderr
    The lamp over the door

    Usage: j acme [OPTIONS] <VERB>

    Commands:
      blink       Blinks TIMES times in a COLOUR
      brightness  Streams how bright it is
      talk        Opens the lamp's own console

    Options:
          --output <FORMAT>  How to print answers, text by default; json is one value a line, errors too [possible values: text, json]
      -h, --help             Print help (see more with '--help')
    --- exit code 2
    ");
}

#[tokio::test]
async fn its_methods_are_called_by_name() {
    let served = served().await;
    assert_snapshot!(served.j(&["acme", "call", "blink", "3"]).await, @"3 times white");
    assert_snapshot!(served.j(&["acme", "call", "blink", "3", "red", "--output", "json"]).await, @r#""3 times red""#);
    assert_snapshot!(served.j(&["call", "acme", "blink", "2", "\"green\""]).await, @r#"2 times "green""#);
    assert_snapshot!(served.j(&["acme", "call", "blink", "0"]).await, @r"
    --- stderr
    error: it blinks at least once
    --- exit code 1
    ");
    assert_snapshot!(served.j(&["acme", "call", "blink", "-1"]).await, @r"
    --- stderr
    error: argument 1 (`times`) of `blink`: expected a whole number, at least 0, found -1
    hint: its form is blink(times, colour?)
    --- exit code 1
    ");
    assert_snapshot!(served.j(&["acme", "call", "blnk", "1"]).await, @r"
    --- stderr
    error: there is no method `blnk`
    hint: did you mean `blink`? There are `blink`, `brightness` and `talk`
    --- exit code 1
    ");
}

#[tokio::test]
async fn its_described_methods_are_commands() {
    let served = served().await;
    assert_snapshot!(served.j(&["acme", "blink", "3", "red"]).await, @"3 times red");
    assert_snapshot!(served.j(&["acme", "blink", "--help"]).await, @r"
    Blinks TIMES times in a COLOUR

    Usage: j acme blink [OPTIONS] <TIMES> [COLOUR]

    Arguments:
      <TIMES>
              u32

      [COLOUR]
              Option<String>

    Options:
          --output <FORMAT>
              How to print answers, text by default; json is one value a line, errors too

              Possible values:
              - text: For people
              - json: For programs

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(served.j(&["acme", "brightness"]).await, @r"
    0.5
    1.0
    ");
}

/// The program `j` does not link the driver, as the published one: the exporter describes its
/// methods.
#[tokio::test]
async fn a_program_that_does_not_know_the_interface_has_its_verbs() {
    let served = served().await;
    assert_snapshot!(served.j_with(&["tree"], b"").await, @r"
    power  power
    acme   ? acme-lamp  The lamp over the door
    ");
    let help = served.j_with(&["acme", "--help"], b"").await;
    assert!(help.contains("  talk        Opens the lamp's own console\n"), "{help}");
    assert_snapshot!(served.j_with(&["acme", "blink", "3", "red"], b"").await, @"3 times red");
    assert_snapshot!(served.j_with(&["acme", "blink"], b"").await, @r"
    --- stderr
    error: the following required arguments were not provided:
      <TIMES>

    Usage: j acme blink <TIMES> [COLOUR]

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(served.j_with(&["acme", "brightness"], b"").await, @r"
    0.5
    1
    ");
    assert_snapshot!(served.j_with(&["acme", "talk"], b"hello\n").await, @"HELLO");
}

#[tokio::test]
async fn its_streams_are_opened_by_name() {
    let served = served().await;
    assert_snapshot!(served.j(&["acme", "stream", "brightness"]).await, @r"
    0.5
    1.0
    ");
    assert_snapshot!(served.j(&["acme", "stream", "brightness", "--output", "json"]).await, @r"
    0.5
    1.0
    ");
    assert_snapshot!(served.j_with(&["stream", "acme", "talk"], b"hello\n").await, @"HELLO");
    assert_snapshot!(served.j_with(&["acme", "stream", "talk", "--bytes"], b"hello\n").await, @"HELLO");
}

#[tokio::test]
async fn other_interfaces_are_not_pretended() {
    let served = served().await;
    assert_snapshot!(served.j(&["acme", "on"]).await, @r"
    --- stderr
    error: `acme` has no `on`
    hint: there are `blink`, `brightness` and `talk`
    --- exit code 2
    ");
}
