// Security keys: between the server's JSON, whose bytes are base64, and the browser's buffers.

type Json = Record<string, unknown>;

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => {
  const plain = text.replaceAll('-', '+').replaceAll('_', '/').replace(/=+$/, '');
  const binary = atob(plain + '='.repeat((4 - (plain.length % 4)) % 4));
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
};

const textOf = (buffer: ArrayBuffer | null): string =>
  buffer
    ? btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replaceAll('+', '-')
        .replaceAll('/', '_')
        .replace(/=+$/, '')
    : '';

type Descriptor = { id: string; type: string; transports?: string[] };
const descriptors = (list: unknown) =>
  ((list ?? []) as Descriptor[]).map((d) => ({
    id: bytesOf(d.id),
    type: 'public-key' as const,
    ...(d.transports?.length ? { transports: d.transports as AuthenticatorTransport[] } : {}),
  }));

/** Makes a new key by what the server asked, and answers what it wants to hear. */
export async function register(options: Json): Promise<string> {
  const o = options as Json & { challenge: string; user: Json & { id: string } };
  const publicKey = {
    ...o,
    challenge: bytesOf(o.challenge),
    user: { ...o.user, id: bytesOf(o.user.id) },
    excludeCredentials: descriptors(o.excludeCredentials),
  } as unknown as PublicKeyCredentialCreationOptions;
  const made = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential;
  const response = made.response as AuthenticatorAttestationResponse;
  return JSON.stringify({
    id: made.id,
    rawId: textOf(made.rawId),
    type: made.type,
    response: {
      clientDataJSON: textOf(response.clientDataJSON),
      attestationObject: textOf(response.attestationObject),
      transports: response.getTransports?.() ?? [],
    },
  });
}

/** Signs a challenge of the server, as `WebAuthnSign` of the call that signs in. */
export async function sign(challenge: string): Promise<string> {
  const asked = JSON.parse(challenge) as { ChallengeID: string; Assertion: { publicKey: Json } };
  const o = asked.Assertion.publicKey as Json & { challenge: string };
  const publicKey = {
    ...o,
    challenge: bytesOf(o.challenge),
    allowCredentials: descriptors(o.allowCredentials),
  } as unknown as PublicKeyCredentialRequestOptions;
  const made = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential;
  const response = made.response as AuthenticatorAssertionResponse;
  const credential = {
    id: made.id,
    rawId: textOf(made.rawId),
    type: made.type,
    response: {
      clientDataJSON: textOf(response.clientDataJSON),
      authenticatorData: textOf(response.authenticatorData),
      signature: textOf(response.signature),
      userHandle: textOf(response.userHandle),
    },
  };
  return JSON.stringify({ ChallengeID: asked.ChallengeID, CredentialJSON: JSON.stringify(credential) });
}

export const hasWebAuthn = () => typeof PublicKeyCredential !== 'undefined' && window.isSecureContext;
