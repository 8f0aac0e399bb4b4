/** Run as a process of its own, with the environment that `kiln env` gives: prints the claims of a token that Microsoft's library got by itself. */
import { ClientCertificateCredential, DefaultAzureCredential, ManagedIdentityCredential } from '@azure/identity';
import { decodeJwt } from 'jose';

const [kind, scope = 'https://management.azure.com/.default'] = process.argv.slice(2);
const { AZURE_TENANT_ID = '', AZURE_CLIENT_ID = '', CERTIFICATE = '' } = process.env;

function credential() {
  switch (kind) {
    case 'default':
      return new DefaultAzureCredential();
    case 'identity':
      return new ManagedIdentityCredential({ clientId: AZURE_CLIENT_ID });
    case 'certificate':
      return new ClientCertificateCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, CERTIFICATE);
    default:
      throw new Error(`no such credential: ${kind}`);
  }
}

const { token } = await credential().getToken(scope);
process.stdout.write(JSON.stringify({ token, ...decodeJwt(token) }));
