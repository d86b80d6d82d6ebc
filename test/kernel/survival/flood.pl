# A root in the sandbox that never stops sending: whole Ethernet frames to the host's end of the link, so that no route, no neighbour and no IPv6
# setting of its own can be what holds it. TCP, UDP, DNS and ICMP to the outside, to a neighbour and to the host, in both families, over and over.
# Usage: flood.pl DEV HOST-MAC SANDBOX-ADDRESS PROXY-ADDRESS OUTSIDE NEIGHBOUR HOST. Prints `sending` after the first round.
use strict; use warnings; use Socket qw(:DEFAULT inet_pton AF_INET6);
$| = 1;
my ($dev, $mac, $self, $proxy, $outside, $near, $host) = @ARGV;
my ($self6, $outside6, $near6, $host6) = map { inet_pton(AF_INET6, $_) } '2001:db8:5::2', '2001:db8:98::2', '2001:db8:97::2', '2001:db8:98::1';
my $target = pack('H*', $mac =~ s/://gr);
my $ethernet = $target . "\x02\0\0\0\0\x02";

sub sum { my $n = unpack '%32n*', $_[0]; $n = ($n & 0xffff) + ($n >> 16) for 1, 2; ~$n & 0xffff }
# The sums over the contents stay 0: whoever counts packets, counts these.
sub tcp { pack('nnNNCCnnn', 40000, $_[0], 1, 0, 0x50, 2, 1024, 0, 0) }
sub udp { pack('nnnna*', 40000, $_[0], 12, 0, 'leak') }
sub ping { pack('CCnnna*', $_[0], 0, 0, 7, 1, 'leak') }
sub four {
  my ($to, $protocol, $body) = @_;
  my $head = pack('CCnnnCCna4a4', 0x45, 0, 20 + length $body, 1, 0, 64, $protocol, 0, inet_aton($self), inet_aton($to));
  substr($head, 10, 2) = pack('n', sum($head));
  return $ethernet . "\x08\x00" . $head . $body;
}
sub six {
  my ($to, $protocol, $body) = @_;
  return $ethernet . "\x86\xdd" . pack('NnCCa16a16', 0x60000000, length $body, $protocol, 64, $self6, $to) . $body;
}
my @frames = (
  (map { my $to = $_; map { four($to, @$_) } [6, tcp(443)], [6, tcp(3128)], [17, udp(443)], [17, udp(53)], [1, ping(8)] } $outside, $near, $host),
  (map { four($proxy, @$_) } [6, tcp(22)], [17, udp(3128)], [17, udp(53)], [1, ping(8)]),
  (map { my $to = $_; map { six($to, @$_) } [6, tcp(443)], [17, udp(443)], [58, ping(128)] } $outside6, $near6, $host6),
);

sub link_of { my $name = shift; socket(my $s, 17, SOCK_RAW, 0) or return; # AF_PACKET
  my $request = pack('a16x16', $name); ioctl($s, 0x8933, $request) or return; # SIOCGIFINDEX
  return ($s, pack('SnlSCCa8', 17, 0, unpack('x16l', $request), 0, 0, 6, $target)) }
my ($s, $to);
for (my $round = 0; ; $round++) {
  # A link may go, and another one come under its name.
  ($s, $to) = link_of($dev) unless $s;
  for my $frame (@frames) { last unless $s; undef $s if !defined send($s, $frame, 0, $to) && !$!{EAGAIN} && !$!{ENOBUFS} && !$!{ENETDOWN} }
  print "sending\n" if $round == 0 && $s;
  select undef, undef, undef, 0.005;
}
