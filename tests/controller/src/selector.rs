//! Label selectors in the grammar of Kubernetes: `a=b, a!=b, a in (x,y), a notin (x), a, !a`.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::proto::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `a=b`, `a==b` and what is in `match_labels`.
    Equals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// Requirements that all have to hold; the empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

impl Selector {
    /// Reads a selector. The error is the text that the controller gives.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        if parser.peek().is_none() {
            return Ok(Self::default());
        }
        loop {
            match parser.peek() {
                Some(Token::Word(_) | Token::Mark("!")) => {}
                other => {
                    let found = Token::text(other);
                    let wanted = if requirements.is_empty() {
                        "!, identifier, or 'end of string'"
                    } else {
                        "identifier after ','"
                    };
                    return Err(format!("found '{found}', expected: {wanted}"));
                }
            }
            let requirement = parser.requirement();
            requirements
                .push(requirement.map_err(|e| format!("unable to parse requirement: {e}"))?);
            match parser.next() {
                None => break,
                Some(Token::Mark(",")) => {}
                other => {
                    let found = Token::text(other.as_ref());
                    return Err(format!("found '{found}', expected: ',' or 'end of string'"));
                }
            }
        }
        requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(Self(requirements))
    }

    /// Reads the selector of a lease: a key has one equality at most, and the inequalities of a key
    /// become one `notin`.
    pub(crate) fn parse_of_lease(text: &str) -> Result<Self, String> {
        let parsed =
            Self::parse(text).map_err(|e| format!("failed to parse label selector: {e}"))?;
        let mut merged: Vec<Requirement> = Vec::new();
        for requirement in parsed.0 {
            let same = merged
                .iter_mut()
                .find(|r| r.key == requirement.key && r.operator == requirement.operator);
            match (same, requirement.operator) {
                (Some(same), Operator::Equals) if same.values != requirement.values => {
                    let value = |r: &Requirement| r.values.first().cloned().unwrap_or_default();
                    return Err(format!(
                        "invalid selector: label {} cannot have multiple equality requirements with different values ({} and {})",
                        same.key,
                        value(same),
                        value(&requirement)
                    ));
                }
                (Some(same), Operator::NotIn) => same.values.extend(requirement.values),
                (Some(same), _) if *same == requirement => {}
                _ => merged.push(requirement),
            }
        }
        Ok(Self(merged))
    }

    /// Reads the message of the older calls.
    pub(crate) fn from_message(message: &LabelSelector) -> Result<Self, String> {
        let mut requirements: Vec<Requirement> = message
            .match_labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: [value.clone()].into(),
            })
            .collect();
        for each in &message.match_expressions {
            let operator = match each.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = each.values.iter().cloned().collect();
            requirements.push(Requirement { key: each.key.clone(), operator, values });
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(requirements))
    }

    pub(crate) fn to_message(&self) -> LabelSelector {
        let expressions = self.0.iter().filter(|r| r.operator != Operator::Equals);
        let match_expressions = expressions
            .map(|r| LabelSelectorRequirement {
                key: r.key.clone(),
                operator: match r.operator {
                    Operator::NotIn => "NotIn",
                    Operator::Exists => "Exists",
                    Operator::DoesNotExist => "DoesNotExist",
                    _ => "In",
                }
                .to_owned(),
                values: r.values.iter().cloned().collect(),
            })
            .collect();
        LabelSelector { match_expressions, match_labels: self.equalities().into_iter().collect() }
    }

    /// The equalities, as labels.
    pub(crate) fn equalities(&self) -> Labels {
        let equalities = self.0.iter().filter(|r| r.operator == Operator::Equals);
        equalities.map(|r| (r.key.clone(), r.values.first().cloned().unwrap_or_default())).collect()
    }

    /// The keys that the selector speaks of.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|r| r.key.as_str())
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|r| {
            let value = labels.get(&r.key);
            match r.operator {
                Operator::Equals | Operator::In => value.is_some_and(|v| r.values.contains(v)),
                Operator::NotIn => value.is_none_or(|v| !r.values.contains(v)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }

    /// The same with `prefix` before each key.
    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        for requirement in &mut self.0 {
            requirement.key.insert_str(0, prefix);
        }
        self
    }
}

/// As the controller shows the selector of a lease.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<none>");
        }
        for (index, Requirement { key, operator, values }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let values = values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            match operator {
                Operator::Equals => write!(f, "{key}={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Mark(&'static str),
}

impl Token {
    /// What the errors show: nothing at the end.
    fn text(token: Option<&Token>) -> &str {
        match token {
            None => "",
            Some(Token::Word(word)) => word,
            Some(Token::Mark(mark)) => mark,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const MARKS: [&str; 7] = ["==", "!=", "=", "!", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
            tokens.push(Token::Mark(mark));
            rest = rest[mark.len()..].trim_start();
            continue;
        }
        let ends = |c: char| c.is_whitespace() || "=!(),".contains(c);
        let end = rest.find(ends).unwrap_or(rest.len());
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Some(&Token::Mark("!"));
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => word,
            other => {
                let found = Token::text(other.as_ref());
                return Err(format!("found '{found}', expected: identifier"));
            }
        };
        if negated {
            let values = BTreeSet::new();
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values });
        }
        if matches!(self.peek(), None | Some(Token::Mark(","))) {
            return Ok(Requirement { key, operator: Operator::Exists, values: BTreeSet::new() });
        }
        let (operator, values) = match self.next() {
            Some(Token::Mark("=" | "==")) => (Operator::Equals, [self.value()?].into()),
            Some(Token::Mark("!=")) => (Operator::NotIn, [self.value()?].into()),
            Some(Token::Word(word)) if word == "in" => (Operator::In, self.values()?),
            Some(Token::Word(word)) if word == "notin" => (Operator::NotIn, self.values()?),
            other => {
                let found = Token::text(other.as_ref());
                let wanted = "in, notin, =, ==, !=, gt, lt";
                return Err(format!("found '{found}', expected: {wanted}"));
            }
        };
        Ok(Requirement { key, operator, values })
    }

    fn value(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            None | Some(Token::Mark(",")) => Ok(String::new()),
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            other => {
                let found = Token::text(other.as_ref());
                Err(format!("found '{found}', expected: identifier"))
            }
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        match self.next() {
            Some(Token::Mark("(")) => {}
            other => {
                return Err(format!("found '{}' expected: '('", Token::text(other.as_ref())));
            }
        }
        if !matches!(self.peek(), Some(Token::Word(_) | Token::Mark("," | ")"))) {
            let found = Token::text(self.peek());
            return Err(format!("found '{found}', expected: ',', ')' or identifier"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(match self.peek().cloned() {
                Some(Token::Word(word)) => {
                    self.at += 1;
                    word
                }
                _ => String::new(),
            });
            match self.next() {
                Some(Token::Mark(",")) => {}
                Some(Token::Mark(")")) => return Ok(values),
                other => {
                    let found = Token::text(other.as_ref());
                    return Err(format!("found '{found}', expected: ',' or ')'"));
                }
            }
        }
    }
}
