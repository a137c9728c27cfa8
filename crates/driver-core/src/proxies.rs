//! Replaces each proxy by a copy of its target.

use crate::bounds::{self, Excess, MAX_DEPTH};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::path::join;
use crate::references::References;

/// Returns the nodes with proxies followed. `references` has a place for each node, and no faults.
pub(crate) fn follow(nodes: Vec<Node>, references: &References) -> Result<Vec<Node>> {
    if !(0..nodes.len()).any(|index| references.is_reference(index)) {
        return Ok(nodes);
    }
    let mut children = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(index);
        }
    }
    let mut follower =
        Follower { nodes: &nodes, references, children, followed: 0, out: Vec::new() };
    follower.add(0, None, Face::default(), 0)?;
    Ok(follower.out)
}

/// The name and the descriptions of a node at the place where it is put.
#[derive(Clone, Copy, Default)]
struct Face<'a> {
    name: &'a str,
    description: Option<&'a str>,
}

struct Follower<'a> {
    nodes: &'a [Node],
    references: &'a References,
    children: Vec<Vec<usize>>,
    /// The number of proxies on the way to this place.
    followed: usize,
    out: Vec<Node>,
}

impl<'a> Follower<'a> {
    /// Adds the node, or its target, and everything below it.
    fn add(
        &mut self,
        index: usize,
        parent: Option<usize>,
        face: Face<'a>,
        depth: usize,
    ) -> Result<()> {
        if self.references.is_reference(index) {
            return self.add_target(index, parent, face, depth);
        }
        bounds::admit(face.name, depth, self.out.len()).map_err(too_large)?;
        let mut node = self.nodes[index].clone();
        node.name = face.name.to_owned();
        node.parent = parent;
        node.path =
            parent.map_or_else(String::new, |parent| join(&self.out[parent].path, face.name));
        node.description = face.description.map(str::to_owned).or(node.description);
        if self.followed > 0 {
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

    /// Adds a proxy's target under the proxy's name.
    fn add_target(
        &mut self,
        proxy: usize,
        parent: Option<usize>,
        face: Face<'a>,
        depth: usize,
    ) -> Result<()> {
        if self.followed + depth > MAX_DEPTH {
            return Err(too_large(Excess::Depth));
        }
        let Some(target) = self.references.target(proxy) else { return Ok(()) };
        let description = face.description.or(self.nodes[proxy].description.as_deref());
        self.followed += 1;
        self.add(target, parent, Face { description, ..face }, depth)?;
        self.followed -= 1;
        Ok(())
    }
}

/// The error of a local device that is too large.
pub(crate) fn too_large(excess: Excess) -> Error {
    Error::invalid_argument(excess.to_string())
}
