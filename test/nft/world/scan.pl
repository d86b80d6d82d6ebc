# Tries every TCP port of an address and prints those that answer, with an open door or a refusal. Usage: scan.pl ADDRESS
use strict; use warnings; use Socket; use Fcntl;

my $address = inet_aton($ARGV[0]);
for (my $first = 1; $first < 65536; $first += 500) {
  my (%waiting, $mask); $mask = '';
  for my $port ($first .. $first + 499) {
    last if $port > 65535;
    socket(my $s, AF_INET, SOCK_STREAM, 6) or die "socket: $!";
    fcntl($s, F_SETFL, O_NONBLOCK);
    if (connect($s, pack_sockaddr_in($port, $address)) || !$!{EINPROGRESS}) { print "$port\n"; next }
    $waiting{fileno $s} = [$s, $port];
    vec($mask, fileno($s), 1) = 1;
  }
  # An answer on this link takes microseconds; one round of patience for each batch, as long as answers come.
  while (%waiting && select(undef, my $ready = $mask, undef, 0.02)) {
    for my $fd (grep { vec($ready, $_, 1) } keys %waiting) { print "$waiting{$fd}[1]\n"; delete $waiting{$fd}; vec($mask, $fd, 1) = 0 }
  }
}
