# Prints every frame that comes in on a link, one per line: SOURCE-MAC HEX-OF-ALL. First line: ready. Its own frames of type 88b7 too, as `end`:
# whatever was handled before one of those stands above it. Usage: frames.pl DEV
use strict; use warnings; use Socket;
$| = 1;
socket(my $s, 17, SOCK_RAW, unpack('S', pack('n', 3))) or die "packet socket: $!"; # AF_PACKET, ETH_P_ALL
my $index = pack('a16x16', $ARGV[0]);
ioctl($s, 0x8933, $index) or die "no $ARGV[0]: $!"; # SIOCGIFINDEX
bind($s, pack('SnlSCCa8', 17, 3, unpack('x16l', $index), 0, 0, 0, '')) or die "bind: $!";
print "ready\n";
while (defined(my $from = recv($s, my $frame, 65535, 0))) {
  my $isOwn = unpack('x10C', $from) == 4; # PACKET_OUTGOING
  my ($source, $type) = unpack 'x6H12H4', $frame;
  print "end\n" if $isOwn && $type eq '88b7';
  print join(':', $source =~ /../g), ' ', unpack('H*', $frame), "\n" unless $isOwn;
}
