// The special-purpose address registries as data: one row per range, with the document that says so. Judges nothing.
// Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IANA multicast and IPv6 address space registries,
// and the metadata addresses that cloud providers publish. The longest matching row of a family wins.

/** What a range is for. `global` rows are islands of public space inside a special range. */
export type AddressKind =
  | 'global'
  | 'this-network'
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'shared'
  | 'link-local'
  | 'unique-local'
  | 'metadata'
  | 'ietf-protocol'
  | 'documentation'
  | 'benchmarking'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'discard'
  | 'segment-routing'
  | '6to4'
  | 'teredo'
  | 'ipv4-compatible'
  | 'ipv4-embedded'
  | 'isatap';

export type AddressRow = readonly [range: string, kind: AddressKind, source: string];

export const ipv4Rows: readonly AddressRow[] = [
  ['0.0.0.0/8', 'this-network', 'RFC 791 §3.2'],
  ['10.0.0.0/8', 'private', 'RFC 1918'],
  ['100.64.0.0/10', 'shared', 'RFC 6598'],
  ['127.0.0.0/8', 'loopback', 'RFC 1122 §3.2.1.3'],
  ['169.254.0.0/16', 'link-local', 'RFC 3927'],
  ['172.16.0.0/12', 'private', 'RFC 1918'],
  ['192.0.0.0/24', 'ietf-protocol', 'RFC 6890 §2.1'],
  ['192.0.0.0/29', 'ietf-protocol', 'RFC 7335'],
  ['192.0.0.8/32', 'ietf-protocol', 'RFC 7600'],
  ['192.0.0.9/32', 'ietf-protocol', 'RFC 7723, anycast to the nearest PCP server'],
  ['192.0.0.10/32', 'ietf-protocol', 'RFC 8155, anycast to the nearest TURN server'],
  ['192.0.0.170/32', 'ietf-protocol', 'RFC 8880'],
  ['192.0.0.171/32', 'ietf-protocol', 'RFC 8880'],
  ['192.0.2.0/24', 'documentation', 'RFC 5737'],
  ['192.31.196.0/24', 'global', 'RFC 7535, AS112'],
  ['192.52.193.0/24', 'global', 'RFC 7450, AMT'],
  ['192.88.99.0/24', '6to4', 'RFC 7526, deprecated relay anycast'],
  ['192.168.0.0/16', 'private', 'RFC 1918'],
  ['192.175.48.0/24', 'global', 'RFC 7534, AS112'],
  ['198.18.0.0/15', 'benchmarking', 'RFC 2544'],
  ['198.51.100.0/24', 'documentation', 'RFC 5737'],
  ['203.0.113.0/24', 'documentation', 'RFC 5737'],
  ['224.0.0.0/4', 'multicast', 'RFC 5771'],
  ['240.0.0.0/4', 'reserved', 'RFC 1112 §4'],
  ['255.255.255.255/32', 'broadcast', 'RFC 919 §7'],
];

// Everything outside 2000::/3 is refused by the first two rows, whatever is listed below them.
export const ipv6Rows: readonly AddressRow[] = [
  ['::/1', 'reserved', 'RFC 4291 §2.4: only 2000::/3 is allocated as global unicast'],
  ['8000::/1', 'reserved', 'RFC 4291 §2.4: only 2000::/3 is allocated as global unicast'],
  ['2000::/3', 'global', 'RFC 4291 §2.4'],
  ['::/128', 'unspecified', 'RFC 4291 §2.5.2'],
  ['::1/128', 'loopback', 'RFC 4291 §2.5.3'],
  ['::/96', 'ipv4-compatible', 'RFC 4291 §2.5.5.1, deprecated'],
  ['::ffff:0:0:0/96', 'ipv4-embedded', 'RFC 2765 §2.1, IPv4-translated'],
  ['64:ff9b:1::/48', 'ipv4-embedded', 'RFC 8215, local-use translation'],
  ['100::/64', 'discard', 'RFC 6666'],
  ['100:0:0:1::/64', 'discard', 'RFC 9780'],
  ['2001::/23', 'ietf-protocol', 'RFC 2928'],
  ['2001::/32', 'teredo', 'RFC 4380'],
  ['2001:1::1/128', 'ietf-protocol', 'RFC 7723, anycast to the nearest PCP server'],
  ['2001:1::2/128', 'ietf-protocol', 'RFC 8155, anycast to the nearest TURN server'],
  ['2001:1::3/128', 'ietf-protocol', 'RFC 9665, anycast to the nearest DNS-SD SRP server'],
  ['2001:2::/48', 'benchmarking', 'RFC 5180'],
  ['2001:3::/32', 'global', 'RFC 7450, AMT'],
  ['2001:4:112::/48', 'global', 'RFC 7535, AS112'],
  ['2001:10::/28', 'ietf-protocol', 'RFC 4843, deprecated ORCHID'],
  ['2001:20::/28', 'ietf-protocol', 'RFC 7343, ORCHIDv2: an identifier, not a locator'],
  ['2001:30::/28', 'ietf-protocol', 'RFC 9374, drone remote id: an identifier, not a locator'],
  ['2001:db8::/32', 'documentation', 'RFC 3849'],
  ['2002::/16', '6to4', 'RFC 3056'],
  ['2620:4f:8000::/48', 'global', 'RFC 7534, AS112'],
  ['3fff::/20', 'documentation', 'RFC 9637'],
  ['5f00::/16', 'segment-routing', 'RFC 9602'],
  ['fc00::/7', 'unique-local', 'RFC 4193'],
  ['fe80::/10', 'link-local', 'RFC 4291 §2.5.6'],
  ['fec0::/10', 'reserved', 'RFC 3879, deprecated site-local'],
  ['ff00::/8', 'multicast', 'RFC 4291 §2.7'],
];

/** Addresses where a cloud hands out credentials or control: no rule can except them. */
export const metadataRows: readonly AddressRow[] = [
  [
    '169.254.169.254/32',
    'metadata',
    'AWS, Google Cloud, Azure, OpenStack, Oracle Cloud, DigitalOcean and others',
  ],
  ['169.254.170.2/32', 'metadata', 'AWS ECS task credentials'],
  ['169.254.170.23/32', 'metadata', 'AWS EKS pod identity'],
  ['169.254.169.123/32', 'metadata', 'AWS time service'],
  ['169.254.169.253/32', 'metadata', 'AWS resolver'],
  ['169.254.0.23/32', 'metadata', 'Tencent Cloud'],
  ['169.254.42.42/32', 'metadata', 'Scaleway'],
  ['100.100.100.200/32', 'metadata', 'Alibaba Cloud'],
  ['168.63.129.16/32', 'metadata', 'Azure wire server'],
  ['192.0.0.192/32', 'metadata', 'Oracle Cloud Classic'],
  ['fd00:ec2::254/128', 'metadata', 'AWS'],
  ['fd00:ec2::23/128', 'metadata', 'AWS EKS pod identity'],
  ['fd00:ec2::123/128', 'metadata', 'AWS time service'],
  ['fd00:ec2::253/128', 'metadata', 'AWS resolver'],
  ['fd20:ce::254/128', 'metadata', 'Google Cloud'],
  ['fd00:42::42/128', 'metadata', 'Scaleway'],
  ['fd00:a9fe:a9fe::254/128', 'metadata', 'Akamai'],
];

/** IPv6 forms that carry an IPv4 address which a network will dial: unwrapped and judged as that address. */
export const unwrappedRanges: readonly (readonly [range: string, source: string])[] = [
  ['::ffff:0:0/96', 'RFC 4291 §2.5.5.2, IPv4-mapped'],
  ['64:ff9b::/96', 'RFC 6052, NAT64 well-known prefix'],
];

/** Kinds that `addresses` on a rule or service may except; every other kind is beyond any rule. */
export const exceptableKinds: ReadonlySet<AddressKind> = new Set<AddressKind>([
  'global',
  'private',
  'shared',
  'unique-local',
  'benchmarking',
  'documentation',
]);
