//! Reads YAML text as a tree whose values and keys know their places.
//!
//! Built from parser events, to keep what an ordinary reader drops (places, duplicate keys, the
//! order). Anchors, aliases and merge keys (`<<`) work. Depth and the expanded size of aliases are
//! bounded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::fault::{Fault, Place, join};
use super::scalar;
pub(super) use super::value::{Entry, Node, Value};

/// The deepest nesting of values: far more than a device needs, far less than a thread's stack
/// holds.
const MAX_DEPTH: usize = 64;
/// The largest expanded file, in bytes of text and of bookkeeping.
const MAX_COST: usize = 16 << 20;
/// The cost of a value beside its text.
const NODE_COST: usize = 64;

/// Reads the one document of `text`.
///
/// # Errors
/// A syntax error alone, or every duplicate key, wrong merge and ambiguous number.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let mut builder = Builder::default();
    // The parser is asked event by event: its own loader recurses as deep as the text demands.
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(syntax(error.info(), place(*error.marker()))),
        };
        if let Err(fault) = step {
            builder.faults.push(fault);
            return Err(builder.faults);
        }
    }
    let start = Place { line: 1, column: 1 };
    match builder.root {
        Some(root) if builder.faults.is_empty() => Ok(root),
        None if builder.faults.is_empty() => Err(vec![Fault::new(start, "", "the file is empty")]),
        _ => Err(builder.faults),
    }
}

fn syntax(info: &str, place: Place) -> Fault {
    let fault = Fault::new(place, "", format!("not valid YAML: {info}"));
    match info {
        _ if info.contains("tab") => fault.hint("indent with spaces"),
        _ if info.contains("quote") => fault,
        _ if info.contains("mapping values") => {
            fault.hint("put text that has `: ` in it in quotes")
        }
        _ if info.contains("expected")
            || info.contains("indent")
            || info.contains("not allowed") =>
        {
            fault.hint("check the indentation, brackets and `:` of this line and the one before")
        }
        _ => fault,
    }
}

fn place(marker: saphyr_parser::Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// Builds the tree from events.
#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    cost: usize,
    documents: usize,
    root: Option<Node>,
    faults: Vec<Fault>,
}

/// The lines of a mapping's keys.
type Lines = HashMap<String, usize>;

/// A list or mapping that is still open.
struct Frame {
    anchor: usize,
    place: Place,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, lines: Lines, merged: Vec<Entry>, key: Option<(String, Place)> },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let place = place(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.fault(place, "a second document begins here; a file has one"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), place)?
            }
            Event::SequenceStart(anchor, tag) => {
                self.known_tag(tag.as_deref(), "seq", place)?;
                self.open(Frame { anchor, place, content: Content::List(Vec::new()) })?;
            }
            Event::MappingStart(anchor, tag) => {
                self.known_tag(tag.as_deref(), "map", place)?;
                let content = Content::Map {
                    entries: Vec::new(),
                    lines: Lines::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.open(Frame { anchor, place, content })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Frame { anchor, place, content }) = self.stack.pop() {
                    let value = match content {
                        Content::List(items) => Value::List(items),
                        Content::Map { entries, lines, merged, .. } => {
                            Value::Map(merge(entries, lines, merged))
                        }
                    };
                    self.value(Node { place, value }, anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.fault(place, "an alias inside the value that it stands for"));
                };
                let (height, cost) = measure(&node);
                if self.stack.len() + height > MAX_DEPTH {
                    return Err(self.too_deep(place));
                }
                self.charge(cost, place)?;
                self.value(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<(), Fault> {
        self.charge(NODE_COST, frame.place)?;
        if self.awaits_key() {
            return Err(self.fault(frame.place, "a key is plain text, not a list or a mapping"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.too_deep(frame.place));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), Fault> {
        self.charge(NODE_COST + text.len(), place)?;
        let plain = style == ScalarStyle::Plain;
        if let Some(Frame { content: Content::Map { key: key @ None, .. }, .. }) =
            self.stack.last_mut()
        {
            *key = Some((text.to_owned(), place));
            return match text {
                "" if plain => Err(self.fault(place, "a key is missing before `:`")),
                _ => Ok(()),
            };
        }
        let value = match tag {
            Some(tag) if is_core(tag, "str") => Value::Text(text.to_owned()),
            Some(tag) if ["int", "float", "bool", "null"].iter().any(|name| is_core(tag, name)) => {
                self.plain(text, place)
            }
            Some(tag) if !(tag.handle.is_empty() && tag.suffix == "!") => {
                return Err(self.fault(place, format!("the tag `{tag}` is not supported")));
            }
            None if plain => self.plain(text, place),
            _ => Value::Text(text.to_owned()),
        };
        self.value(Node { place, value }, anchor)
    }

    fn plain(&mut self, text: &str, place: Place) -> Value {
        scalar::resolve(text).unwrap_or_else(|(message, hint)| {
            let fault = self.fault(place, message).hint(hint);
            self.faults.push(fault);
            Value::Null
        })
    }

    fn known_tag(&self, tag: Option<&Tag>, name: &str, place: Place) -> Result<(), Fault> {
        match tag {
            Some(tag) if !is_core(tag, name) => {
                Err(self.fault(place, format!("the tag `{tag}` is not supported")))
            }
            _ => Ok(()),
        }
    }

    /// Adds a finished value to its parent.
    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(node.place, "a key is plain text, not an alias"));
        }
        if anchor > 0 {
            self.charge(measure(&node).1, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let path = self.path();
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, lines, merged, key }) => {
                let Some((key, place)) = key.take() else { return Ok(()) };
                match (key.as_str(), lines.get(&key)) {
                    ("<<", _) => match merge_sources(node) {
                        Some(sources) => merged.extend(sources),
                        None => self.faults.push(
                            Fault::new(place, path, "`<<` merges a mapping or a list of mappings")
                                .hint("write `<<: *ANCHOR`"),
                        ),
                    },
                    (_, Some(line)) => {
                        let message = format!("duplicate key; the first is in line {line}");
                        self.faults.push(Fault::new(place, path, message));
                    }
                    _ => {
                        lines.insert(key.clone(), place.line);
                        entries.push(Entry { key, place, value: node });
                    }
                }
            }
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map { key: None, .. }, .. }))
    }

    fn charge(&mut self, cost: usize, place: Place) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > MAX_COST {
            return Err(self.fault(place, "the file is too large once its aliases are expanded"));
        }
        Ok(())
    }

    fn too_deep(&self, place: Place) -> Fault {
        Fault::new(place, "", format!("nested deeper than {MAX_DEPTH} levels"))
    }

    fn fault(&self, place: Place, message: impl Into<String>) -> Fault {
        Fault::new(place, self.path(), message)
    }

    /// The path of the value being read.
    fn path(&self) -> String {
        self.stack.iter().fold(String::new(), |path, frame| match &frame.content {
            Content::List(items) => format!("{path}[{}]", items.len()),
            Content::Map { key: Some((key, _)), .. } => join(&path, key),
            Content::Map { key: None, .. } => path,
        })
    }
}

fn is_core(tag: &Tag, name: &str) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == name
}

/// The entries that `<<` names.
fn merge_sources(node: Node) -> Option<Vec<Entry>> {
    match node.value {
        Value::Map(entries) => Some(entries),
        Value::List(items) => {
            let maps = items
                .into_iter()
                .map(|item| if let Value::Map(map) = item.value { Some(map) } else { None });
            Some(maps.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// A mapping's own entries first; among merged ones the first of each key wins.
fn merge(mut entries: Vec<Entry>, mut lines: Lines, merged: Vec<Entry>) -> Vec<Entry> {
    for entry in merged {
        if lines.insert(entry.key.clone(), entry.place.line).is_none() {
            entries.push(entry);
        }
    }
    entries
}

/// The depth and the cost of a value.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<(usize, usize)> = match &node.value {
        Value::Text(text) => return (0, NODE_COST + text.len()),
        Value::List(items) => items.iter().map(measure).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| {
                let (height, cost) = measure(&entry.value);
                (height, cost + entry.key.len())
            })
            .collect(),
        _ => return (0, NODE_COST),
    };
    let height = children.iter().map(|(height, _)| height).max().copied().unwrap_or(0);
    (height + 1, children.iter().map(|(_, cost)| cost).sum::<usize>() + NODE_COST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn read(text: &str) -> serde_json::Value {
        parse(text).map(|node| node.value.to_json()).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    #[track_caller]
    fn faults(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_anchors_and_merges() {
        assert_eq!(
            read("a: 1\nb: [x, 'true', \"é\\n\", ~]\nc: |\n  l1\n  l2\n"),
            json!({"a": 1, "b": ["x", "true", "é\n", null], "c": "l1\nl2\n"})
        );
        assert_eq!(
            read("a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, l: 3}\nd: {<<: [*x, {m: 4}]}\n"),
            json!({"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"l": 3, "k": 1}, "d": {"k": 1, "l": 2, "m": 4}})
        );
        assert_eq!(read("a: !!str 5\nb: ! 6\n1: x\n"), json!({"a": "5", "b": "6", "1": "x"}));
    }

    #[test]
    fn places() {
        let node = parse("a:\n  b.c: [1, {d: x}]\n").unwrap();
        assert_eq!(node.locate("a.b.c[1].d"), Place { line: 2, column: 16 });
        assert_eq!(node.locate("a.b.c[7]"), Place { line: 2, column: 8 });
        assert_eq!(node.get("a").unwrap().place, Place { line: 1, column: 1 });
    }

    #[test]
    fn refused() {
        assert_eq!(
            faults("a: 1\nb: {c: 1, c: 2}\na: 2\n"),
            [
                "2:11: b.c: duplicate key; the first is in line 2",
                "3:1: a: duplicate key; the first is in line 1"
            ]
        );
        assert_eq!(faults(""), ["1:1: the file is empty"]);
        assert_eq!(
            faults("a: 1\n---\nb: 2\n"),
            ["2:1: a second document begins here; a file has one"]
        );
        assert_eq!(
            faults("a: &x [*x]\n"),
            ["1:8: a[0]: an alias inside the value that it stands for"]
        );
        assert_eq!(faults("a: !secret x\n"), ["1:4: a: the tag `!secret` is not supported"]);
        assert_eq!(faults("? [a]\n: 1\n"), ["1:3: a key is plain text, not a list or a mapping"]);
        assert!(
            faults("a:\n\tb: 1\n")[0].contains("indent with spaces"),
            "{:?}",
            faults("a:\n\tb: 1\n")
        );
    }

    #[test]
    fn bombs() {
        let deep = "[".repeat(100_000);
        assert!(!faults(&deep).is_empty());
        let block: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(faults(&block)[0].contains("nested deeper"), "{:?}", faults(&block));
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(faults(&laughs)[0].contains("too large"));
        let long = "x".repeat(1 << 20);
        assert!(
            faults(&format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(1000)))[0]
                .contains("too large")
        );
    }
}
