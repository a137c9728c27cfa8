//! Proxies: in the place of each stands a copy of what it refers to.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bounds::{self, Excess, MAX_DEPTH};
use crate::device::Node;
use crate::error::{Error, Result};
use crate::suggest;
use crate::tree::join;

/// How many proxies may lead to one another.
const MAX_HOPS: usize = 32;

/// The nodes with their proxies followed, of which `targets` tells what they refer to.
pub(crate) fn follow(nodes: &[Node], targets: &HashMap<usize, String>) -> Result<Vec<Node>> {
    let mut children = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(index);
        }
    }
    let by_path =
        nodes.iter().enumerate().map(|(index, node)| (node.path.as_str(), index)).collect();
    let mut follower =
        Follower { nodes, targets, by_path, children, followed: Vec::new(), out: Vec::new() };
    follower.add(0, None, Face::default(), 0)?;
    Ok(follower.out)
}

/// What a node is called where it is put, and what is said of it there.
#[derive(Clone, Copy, Default)]
struct Face<'a> {
    name: &'a str,
    description: Option<&'a str>,
}

struct Follower<'a> {
    nodes: &'a [Node],
    targets: &'a HashMap<usize, String>,
    by_path: HashMap<&'a str, usize>,
    children: Vec<Vec<usize>>,
    /// The proxies that lead to the present place, from the first.
    followed: Vec<usize>,
    out: Vec<Node>,
}

impl<'a> Follower<'a> {
    /// Adds the node, or what it refers to, and all that is below it.
    fn add(
        &mut self,
        index: usize,
        parent: Option<usize>,
        face: Face<'a>,
        depth: usize,
    ) -> Result<()> {
        if self.targets.contains_key(&index) {
            return self.add_target(index, parent, face, depth);
        }
        bounds::admit(face.name, depth, self.out.len()).map_err(too_large)?;
        let mut node = self.nodes[index].clone();
        node.name = face.name.to_owned();
        node.parent = parent;
        node.path =
            parent.map_or_else(String::new, |parent| join(&self.out[parent].path, face.name));
        node.description = face.description.map(str::to_owned).or(node.description);
        if !self.followed.is_empty() {
            node.driver = None; // the original is closed, not the copy
        }
        let place = self.out.len();
        self.out.push(node);
        for child in self.children[index].clone() {
            let face = Face { name: &self.nodes[child].name, description: None };
            self.add(child, Some(place), face, depth + 1)?;
        }
        Ok(())
    }

    /// Adds what a proxy refers to, under the proxy's name.
    fn add_target(
        &mut self,
        proxy: usize,
        parent: Option<usize>,
        face: Face<'a>,
        depth: usize,
    ) -> Result<()> {
        if let Some(start) = self.followed.iter().position(|followed| *followed == proxy) {
            return Err(self.circle(&self.followed[start..]));
        }
        if self.followed.len() + depth > MAX_DEPTH {
            return Err(too_large(Excess::Depth));
        }
        let target = self.resolve(proxy)?;
        let description = face.description.or(self.nodes[proxy].description.as_deref());
        self.followed.push(proxy);
        self.add(target, parent, Face { description, ..face }, depth)?;
        self.followed.pop();
        Ok(())
    }

    /// Where the target of a proxy is. It may be below another proxy, and is then looked for below
    /// that one's target.
    fn resolve(&self, proxy: usize) -> Result<usize> {
        let mut path = Cow::Borrowed(self.targets[&proxy].as_str());
        for _ in 0..MAX_HOPS {
            if let Some(index) = self.by_path.get(path.as_ref()) {
                return Ok(*index);
            }
            let above = path.rmatch_indices('.').find_map(|(end, _)| {
                let target = self.targets.get(self.by_path.get(&path[..end])?)?;
                Some(format!("{target}{}", &path[end..]))
            });
            path = Cow::Owned(above.ok_or_else(|| self.dangling(proxy))?);
        }
        Err(self.circle(&[proxy]))
    }

    fn dangling(&self, proxy: usize) -> Error {
        let target = &self.targets[&proxy];
        let real = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, node)| !self.targets.contains_key(index) && !node.path.is_empty());
        let path = &self.nodes[proxy].path;
        Error::not_found(format!("`{path}` refers to `{target}`, which does not exist"))
            .with_hint(suggest::hint(target, real.map(|(_, node)| node.path.as_str())))
    }

    fn circle(&self, proxies: &[usize]) -> Error {
        let step = |proxy: &usize| {
            format!("`{}` refers to `{}`", self.nodes[*proxy].path, self.targets[proxy])
        };
        let steps: Vec<String> = proxies.iter().map(step).collect();
        Error::invalid_argument(format!("references form a cycle: {}", steps.join(", ")))
    }
}

/// The error of a device of this process that is too large.
pub(crate) fn too_large(excess: Excess) -> Error {
    Error::invalid_argument(excess.to_string())
}
