//! The arguments of the attributes.

use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{LitStr, Path, Token, parse_quote};

/// The path of the crate `jumpstarter_driver_core`.
pub(crate) struct Root(Path);

impl Default for Root {
    fn default() -> Self {
        Self(parse_quote!(::jumpstarter_driver_core))
    }
}

impl Root {
    /// Reads `crate = path`.
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        self.0 = meta.value()?.call(Path::parse_mod_style)?;
        Ok(())
    }

    /// The path of an item in the module that the macros use.
    pub(crate) fn private(&self, item: &str) -> Path {
        let (root, item) = (&self.0, syn::Ident::new(item, proc_macro2::Span::call_site()));
        parse_quote!(#root::__private::#item)
    }

    /// That path as text: for `#[serde(crate = "…")]`.
    pub(crate) fn private_text(&self, item: &str) -> String {
        let path = self.private(item);
        quote!(#path).to_string().replace(' ', "")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// The arguments of `#[interface]`.
#[derive(Default)]
pub(crate) struct Interface {
    pub(crate) name: Option<LitStr>,
    pub(crate) client: Option<LitStr>,
    pub(crate) also: Vec<LitStr>,
    pub(crate) native: bool,
    pub(crate) root: Root,
}

impl Interface {
    pub(crate) fn read(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let value = || meta.value()?.parse::<LitStr>();
        if meta.path.is_ident("name") {
            self.name = Some(value()?);
        } else if meta.path.is_ident("client") {
            self.client = Some(value()?);
        } else if meta.path.is_ident("also") {
            let value = meta.value()?;
            let listed;
            syn::bracketed!(listed in value);
            self.also =
                Punctuated::<LitStr, Token![,]>::parse_terminated(&listed)?.into_iter().collect();
        } else if meta.path.is_ident("native") {
            self.native = true;
        } else if meta.path.is_ident("crate") {
            self.root.read(meta)?;
        } else {
            return Err(meta.error(
                "expected `name = \"…\"`, `client = \"…\"`, `also = [\"…\"]`, `native` or `crate = path`",
            ));
        }
        Ok(())
    }
}

/// The arguments of `#[config]` and `#[data]`.
#[derive(Default)]
pub(crate) struct Definition {
    pub(crate) root: Root,
}

impl Definition {
    pub(crate) fn read(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if meta.path.is_ident("crate") {
            return self.root.read(meta);
        }
        Err(meta.error("expected `crate = path`"))
    }
}
