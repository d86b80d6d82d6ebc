// Finds out from where this machine is being managed: the far end of the ssh session in which we run, also below sudo, which clears its name from the
// environment. Looks only; a session of another kind is not known.
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';

const maxAncestors = 32;

/** Address of the client of our ssh session (with a zone, as `fe80::1%eth0`, where it has one); undefined when there is none to be seen. */
export async function sessionPeer(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const own = peerIn(environment['SSH_CONNECTION'] ?? '');
  return own ?? (await peerAbove(process.ppid, maxAncestors));
}

async function peerAbove(pid: number, most: number): Promise<string | undefined> {
  if (pid <= 1 || most === 0) return undefined;
  const found = peerIn(await variableOf(pid, 'SSH_CONNECTION'));
  return found ?? (await peerAbove(await parentOf(pid), most - 1));
}

/** `client port server port`, as sshd(8) sets it. */
function peerIn(connection: string): string | undefined {
  const [client = ''] = connection.split(' ');
  return isIP(client.split('%')[0] ?? '') === 0 ? undefined : client;
}

async function variableOf(pid: number, name: string): Promise<string> {
  const text = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
  const found = text.split('\0').find((one) => one.startsWith(`${name}=`));
  return found?.slice(name.length + 1) ?? '';
}

async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name may hold spaces and brackets: fields are counted after it.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}
