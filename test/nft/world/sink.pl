# Prints every packet that gets here, one per line: FAMILY PROTOCOL SOURCE DESTINATION PORT-OR-TYPE ID. First line: ready.
# `sink.pl local ADDRESS`: what the kernel delivers to this machine, after every netfilter hook; a member of two multicast groups on the link
# of ADDRESS. `sink.pl wire DEV`: what comes in on a link, before any hook.
use strict; use warnings; use Socket qw(:all);

$| = 1;
my ($mode, $link) = @ARGV;
my %sockets; # by file number: [socket, family or 0 for a link, protocol]
sub keep { my ($s, @what) = @_; $sockets{fileno $s} = [$s, @what] }

if ($mode eq 'wire') {
  socket(my $s, 17, SOCK_RAW, unpack('S', pack('n', 3))) or die "packet socket: $!"; # AF_PACKET, ETH_P_ALL
  my $index = pack('a16x16', $link);
  ioctl($s, 0x8933, $index) or die "no $link: $!"; # SIOCGIFINDEX
  bind($s, pack('SnlSCCa8', 17, 3, unpack('x16l', $index), 0, 0, 0, '')) or die "bind: $!";
  keep($s, 0, 0);
} else {
  for my $protocol (1, 2, 4, 6, 17, 33, 41, 47, 50, 89, 103, 132, 136, 253) {
    socket(my $s, AF_INET, SOCK_RAW, $protocol) or die "raw $protocol: $!";
    keep($s, 4, $protocol);
    next unless $protocol == 17;
    setsockopt($s, IPPROTO_IP, IP_ADD_MEMBERSHIP, pack_ip_mreq(inet_aton($_), inet_aton($link))) or die "join $_: $!"
      for '224.0.0.251', '239.255.255.250';
  }
  for my $protocol (6, 17, 58) {
    socket(my $s, AF_INET6, SOCK_RAW, $protocol) or die "raw6 $protocol: $!";
    keep($s, 6, $protocol);
  }
}
print "ready\n";

sub report {
  my ($family, $protocol, $source, $destination, $body) = @_;
  return if length $body < 8;
  my ($first, $second, $third) = unpack 'nnn', $body;
  my $isIcmp = $protocol == 1 || $protocol == 58;
  print join(' ', $family, $protocol, $source, $destination, $isIcmp ? $first >> 8 : $second, $isIcmp ? $third : $first), "\n";
}
sub packet4 {
  my $packet = shift;
  my ($first, $protocol, $source, $destination) = unpack 'Cx8Cx2a4a4', $packet;
  report(4, $protocol, inet_ntoa($source), inet_ntoa($destination), substr($packet, ($first & 15) * 4));
}
sub packet6 {
  my $packet = shift;
  my ($protocol, $source, $destination) = unpack 'x6Cxa16a16', $packet;
  report(6, $protocol, inet_ntop(AF_INET6, $source), inet_ntop(AF_INET6, $destination), substr($packet, 40));
}

while (1) {
  my $mask = ''; vec($mask, $_, 1) = 1 for keys %sockets;
  select($mask, undef, undef, undef);
  for my $entry (map { $sockets{$_} } grep { vec($mask, $_, 1) } keys %sockets) {
    my ($s, $family, $protocol) = @$entry;
    my $from = recv($s, my $packet, 65535, 0);
    next unless defined $from;
    if ($family == 4) { packet4($packet) }
    elsif ($family == 6) { report(6, $protocol, inet_ntop(AF_INET6, (unpack_sockaddr_in6($from))[1]), '-', $packet) }
    else {
      my ($type, $direction) = unpack 'x2nx6C', $from;
      next if $direction == 4; # PACKET_OUTGOING
      my $body = substr($packet, 14);
      packet4($body) if $type == 0x0800 && length $body >= 28;
      packet6($body) if $type == 0x86dd && length $body >= 48;
    }
  }
}
