# Sends one packet of a kind and prints what came of it. Perl, because perl-base is on every Debian and Node has no raw sockets.
# Usage: send.pl ID KIND DESTINATION [PORT|PROTOCOL] [SOURCE|HOP]   (ID: 16 bits by which sink.pl knows the packet again)
use strict; use warnings; use Socket qw(:all); use Errno qw(EINPROGRESS ECONNREFUSED); use Fcntl;

my ($id, $kind, $to, $arg, $extra) = @ARGV;
my $six = $to =~ /:/;
my $family = $six ? AF_INET6 : AF_INET;
my $address = inet_pton($family, $to) or die "bad address $to";

sub sum { my $s = 0; $s += $_ for unpack 'n*', $_[0] . (length($_[0]) % 2 ? "\0" : ''); $s = ($s >> 16) + ($s & 0xffff) while $s >> 16; ~$s & 0xffff }
sub at { my $port = shift; $six ? pack_sockaddr_in6($port, $address) : pack_sockaddr_in($port, $address) }
sub open_socket {
  my ($type, $protocol) = @_;
  socket(my $s, $family, $type, $protocol) or die "socket: $!";
  setsockopt($s, SOL_SOCKET, SO_BROADCAST, 1);
  setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
  setsockopt($s, SOL_SOCKET, 25, "eth0\0") if $to =~ /^(ff|22[4-9]|255)/; # SO_BINDTODEVICE: multicast needs an interface
  return $s;
}
sub bind_id { my $s = shift; bind($s, $six ? pack_sockaddr_in6($id, IN6ADDR_ANY) : pack_sockaddr_in($id, INADDR_ANY)) or die "bind: $!" }
sub fire { my ($s, $body, $port) = @_; print defined send($s, $body, 0, at($port)) ? "sent\n" : "error $!\n" }
# A whole IPv4 packet with a TCP SYN; the kernel fills in length and header checksum.
sub ipv4 {
  my ($source, $protocol, $body, $options, $fragment) = @_;
  my $words = 5 + length($options) / 4;
  return pack('CCnnnCCna4a4', 0x40 | $words, 0, 0, $id, $fragment, 64, $protocol, 0, inet_aton($source), $address) . $options . $body;
}
sub syn {
  my ($source, $port, $real) = @_;
  my $header = pack('nnNNCCnnn', $id, $port, 1, 0, 0x50, 2, 1024, 0, 0);
  my $pseudo = inet_aton($source) . ($real // $address) . pack('CCn', 0, 6, length $header);
  substr($header, 16, 2) = pack 'n', sum($pseudo . $header);
  return $header;
}

if ($kind eq 'tcp') {
  my $s = open_socket(SOCK_STREAM, IPPROTO_TCP); bind_id($s);
  fcntl($s, F_SETFL, O_NONBLOCK);
  my $done = connect($s, at($arg));
  if (!$done && $!{EINPROGRESS}) {
    my $mask = ''; vec($mask, fileno($s), 1) = 1;
    if (!select(undef, $mask, undef, 0.06)) { print "silence\n"; exit }
    $! = unpack 'i', getsockopt($s, SOL_SOCKET, SO_ERROR);
    $done = !$!;
  }
  print $done ? "open\n" : $!{ECONNREFUSED} ? "refused\n" : "error $!\n";
} elsif ($kind eq 'udp') {
  my $s = open_socket(SOCK_DGRAM, IPPROTO_UDP); bind_id($s); fire($s, 'probe', $arg);
} elsif ($kind eq 'ping') {
  my $body = pack('CCnnna8', $six ? 128 : 8, 0, 0, $id, 1, 'probe');
  substr($body, 2, 2) = pack 'n', sum($body) if !$six;
  fire(open_socket(SOCK_RAW, $six ? 58 : 1), $body, 0);
} elsif ($kind eq 'raw') {
  fire(open_socket(SOCK_RAW, $arg), pack('na20', $id, 'probe'), 0);
} else {
  my $s = open_socket(SOCK_RAW, 255); # IPPROTO_RAW: the header is ours
  my $body = syn($extra, $arg);
  fire($s, ipv4($extra, 6, $body, '', 0), 0) if $kind eq 'spoof';
  # Loose source route (RFC 791): the packet names the proxy, then HOP; it would leave the proxy's host for HOP.
  fire($s, ipv4('10.219.0.2', 6, syn('10.219.0.2', $arg, inet_aton($extra)), pack('CCCa4C', 131, 7, 4, inet_aton($extra), 0), 0), 0) if $kind eq 'route';
  # A TCP header cut in two (RFC 1858): no single piece shows both ports and flags.
  if ($kind eq 'pieces') { fire($s, ipv4($extra, 6, substr($body, 0, 8), '', 0x2000), 0); fire($s, ipv4($extra, 6, substr($body, 8), '', 1), 0) }
}
