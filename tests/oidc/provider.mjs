// An OpenID provider for tests: `node provider.mjs FOLDER [SECONDS]`, with the packages in FOLDER, gives
// tokens that are good for SECONDS. The first line that it prints is JSON: its issuer and its keys.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, seconds = "3600"] = process.argv.slice(2);
const installed = (path) => import(pathToFileURL(join(folder, "node_modules", path)));
const { default: Provider, errors } = await installed("oidc-provider/lib/index.js");
const { decodeJwt } = await installed("jose/dist/node/esm/index.js");

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { kid: "test", alg: "RS256", use: "sig" };
const privateJwk = { ...privateKey.export({ format: "jwk" }), ...key };
const publicJwk = { ...publicKey.export({ format: "jwk" }), ...key };

const RESOURCE = "https://controller.lab.example";
const LIFE = Number(seconds);
const client = {
  token_endpoint_auth_method: "none",
  application_type: "native",
  redirect_uris: ["http://localhost/callback"],
  response_types: ["code"],
  grant_types: [
    "authorization_code",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "password",
  ],
};
const resource = { scope: "openid profile", audience: "lab", accessTokenTTL: LIFE, accessTokenFormat: "jwt" };

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [
    { ...client, client_id: "jumpstarter-cli" },
    { ...client, client_id: "other-cli" },
  ],
  jwks: { keys: [privateJwk] },
  cookies: { keys: ["test"] },
  features: {
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => resource,
    },
  },
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  // A used refresh token is good for nothing, and ends what came of it.
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client, code) => code.scopes.has("offline_access") || code.scopes.has("openid"),
  pkce: { required: () => true },
  ttl: { AccessToken: LIFE, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600, DeviceCode: 600, IdToken: 3600 },
});

// Gives an access token, and a refresh token, for an account.
async function give(ctx, accountId, gty) {
  const { client, params } = ctx.oidc;
  const grant = new provider.Grant({ clientId: client.clientId, accountId });
  grant.addOIDCScope("openid profile offline_access");
  grant.addResourceScope(RESOURCE, "openid profile");
  const grantId = await grant.save();
  const common = { accountId, client, grantId, gty, scope: "openid profile" };
  const token = new provider.AccessToken({ ...common, claims: {} });
  token.resourceServer = new provider.ResourceServer(RESOURCE, resource);
  ctx.body = { access_token: await token.save(), token_type: "Bearer", expires_in: LIFE };
  if ((params.scope ?? "").includes("offline_access")) {
    const refresh = new provider.RefreshToken({ ...common, scope: "openid profile offline_access", resource: RESOURCE, rotations: 0 });
    ctx.body.refresh_token = await refresh.save();
  }
}

provider.registerGrantType("password", async (ctx, next) => {
  const { username, password } = ctx.oidc.params;
  if (password !== "correct horse") {
    // As a provider that repeats what it was sent.
    throw new errors.CustomOIDCProviderError("invalid_grant", `${username} has not the password ${password}`);
  }
  await give(ctx, username, "password");
  await next();
}, ["username", "password", "scope"]);

provider.registerGrantType("urn:ietf:params:oauth:grant-type:token-exchange", async (ctx, next) => {
  const { subject_token: token, connector_id: connector, subject_token_type: type } = ctx.oidc.params;
  if (connector !== "ci" || !type.endsWith(":id_token")) {
    throw new errors.CustomOIDCProviderError("invalid_grant", "no such connector");
  }
  await give(ctx, decodeJwt(token).sub, "token-exchange");
  await next();
}, ["subject_token", "subject_token_type", "requested_token_type", "connector_id", "scope"]);

server.on("request", provider.callback());
console.log(JSON.stringify({ issuer, keys: { keys: [publicJwk] } }));
// It ends with the test that started it.
process.stdin.on("end", () => process.exit(0)).resume();
