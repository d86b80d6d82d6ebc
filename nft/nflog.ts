// Reads what tcpdump writes of an NFLOG group: a stream of pcap records of the link type NFLOG, out of which come the class and the addresses of each
// dropped packet. Pure; every length is checked, as what is inside was made by the sandbox.
import { dropClasses, type DropClass } from './classes.ts';

/** One packet that the fence has dropped, as far as its head says. */
export interface DroppedPacket {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly class: DropClass;
  /** `tcp`, `udp`, `icmp` and a few more by name, others as `ip-47`; a frame that is no IP as `ether-88b5`. */
  readonly protocol: string;
  /** Null where the packet has none, or its head does not reach so far. */
  readonly source: string | null;
  readonly address: string | null;
  readonly port: number | null;
}

const maxRecordBytes = 4096;
const [fileHead, recordHead] = [24, 16];
const magic = 0xa1b2c3d4;
const linkTypeNflog = 239;

/** Takes the stream piece by piece. Throws an Error when it is no such stream. */
export function createNflogReader(): (piece: Buffer) => readonly DroppedPacket[] {
  let rest = Buffer.alloc(0);
  let isOpen = false;
  return (piece) => {
    rest = Buffer.concat([rest, piece]);
    if (!isOpen) {
      if (rest.length < fileHead) return [];
      if (rest.readUInt32LE(0) !== magic || rest.readUInt32LE(20) !== linkTypeNflog)
        throw new Error('this is no NFLOG capture of a little-endian machine');
      isOpen = true;
      rest = rest.subarray(fileHead);
    }
    const found: DroppedPacket[] = [];
    while (rest.length >= recordHead) {
      const length = rest.readUInt32LE(8);
      if (length > maxRecordBytes) throw new Error(`a record of ${length} bytes is none of ours`);
      if (rest.length < recordHead + length) break;
      const at = rest.readUInt32LE(0) * 1000 + Math.floor(rest.readUInt32LE(4) / 1000);
      const packet = readRecord(rest.subarray(recordHead, recordHead + length), at);
      if (packet !== undefined) found.push(packet);
      rest = rest.subarray(recordHead + length);
    }
    return found;
  };
}

// Attributes of linux/netfilter/nfnetlink_log.h.
const attribute = { packet: 1, payload: 9, prefix: 10 } as const;

/** Undefined for a record whose prefix is no class: it is not of a fence. */
function readRecord(record: Buffer, at: number): DroppedPacket | undefined {
  const parts = readAttributes(record);
  const word = parts.get(attribute.prefix)?.toString('latin1').split('\0')[0];
  const name = dropClasses.map((one) => one.name).find((one) => one === word);
  if (name === undefined) return undefined;
  const type = parts.get(attribute.packet) ?? Buffer.alloc(0);
  const etherType = type.length >= 2 ? type.readUInt16BE(0) : 0;
  return { at, class: name, ...readHead(etherType, parts.get(attribute.payload) ?? Buffer.alloc(0)) };
}

/** After four bytes of head: length and type in the machine's order, then as much, filled up to four. */
function readAttributes(record: Buffer): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 4; at + 4 <= record.length;) {
    const length = record.readUInt16LE(at);
    if (length < 4 || at + length > record.length) break;
    found.set(record.readUInt16LE(at + 2), record.subarray(at + 4, at + length));
    at += Math.ceil(length / 4) * 4;
  }
  return found;
}

type Head = Pick<DroppedPacket, 'protocol' | 'source' | 'address' | 'port'>;

function readHead(etherType: number, bytes: Buffer): Head {
  if (etherType === 0x0800 && bytes.length >= 20) return readIpv4(bytes);
  if (etherType === 0x86dd && bytes.length >= 40) return readIpv6(bytes);
  const protocol = `ether-${etherType.toString(16).padStart(4, '0')}`;
  return { protocol, source: null, address: null, port: null };
}

function readIpv4(bytes: Buffer): Head {
  const number = bytes.readUInt8(9);
  const isFirst = (bytes.readUInt16BE(6) & 0x1fff) === 0; // a later fragment has no ports
  const start = (bytes.readUInt8(0) & 15) * 4;
  return {
    protocol: nameOf(number),
    source: bytes.subarray(12, 16).join('.'),
    address: bytes.subarray(16, 20).join('.'),
    port: isFirst && start >= 20 ? portAt(number, bytes, start) : null,
  };
}

/** Without extension headers: a packet that has one is told by the first of them. */
function readIpv6(bytes: Buffer): Head {
  const number = bytes.readUInt8(6);
  return {
    protocol: nameOf(number),
    source: inGroups(bytes.subarray(8, 24)),
    address: inGroups(bytes.subarray(24, 40)),
    port: portAt(number, bytes, 40),
  };
}

/** The canonical spelling of RFC 5952 is the URL parser's. */
function inGroups(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

function portAt(protocol: number, bytes: Buffer, start: number): number | null {
  return hasPorts.has(protocol) && bytes.length >= start + 4 ? bytes.readUInt16BE(start + 2) : null;
}

/** IANA protocol numbers. */
const names: ReadonlyMap<number, string> = new Map([
  [1, 'icmp'],
  [2, 'igmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [58, 'icmpv6'],
  [132, 'sctp'],
  [136, 'udplite'],
]);
/** Those whose header begins with two ports. */
const hasPorts: ReadonlySet<number> = new Set([6, 17, 33, 132, 136]);

function nameOf(protocol: number): string {
  return names.get(protocol) ?? `ip-${protocol}`;
}
