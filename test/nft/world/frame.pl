# Sends one Ethernet frame on a link and prints `sent`. Usage: frame.pl ETHERTYPE(hex) DESTINATION-MAC|broadcast PAYLOAD(hex) [DEV]
use strict; use warnings; use Socket;
my ($type, $to, $payload, $dev) = (@ARGV, 'eth0');
socket(my $s, 17, SOCK_RAW, unpack('S', pack('n', 3))) or die "packet socket: $!"; # AF_PACKET
my $request = pack('a16x16', $dev);
ioctl($s, 0x8933, $request) or die "no $dev: $!"; # SIOCGIFINDEX
my $index = unpack('x16l', $request);
my $mac = pack('a16x16', $dev);
ioctl($s, 0x8927, $mac) or die "no address: $!"; # SIOCGIFHWADDR
my $source = substr($mac, 18, 6);
my $target = $to eq 'broadcast' ? "\xff" x 6 : pack('H*', $to =~ s/://gr);
my $body = pack('H*', $payload);
$body .= "\0" x (46 - length $body) if length $body < 46;
print defined send($s, $target . $source . pack('H*', $type) . $body, 0, pack('SnlSCCa8', 17, 0, $index, 0, 0, 6, $target)) ? "sent\n" : "error $!\n";
