# Opens COUNT connections to ADDRESS PORT, one after the other, and waits for the first line on each. Prints `open` or `closed` for each, then `done`;
# keeps what is open until a line comes on stdin, and then prints `gone`.
# Usage: tunnels.pl ADDRESS PORT COUNT
use strict; use warnings; use IO::Socket::INET;
$| = 1;
my ($address, $port, $count) = @ARGV;
my @open;
for (1 .. $count) {
  my $s = IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 5);
  my $line = defined $s ? <$s> : undef;
  print defined $line ? "open\n" : "closed\n";
  push @open, $s if defined $line;
}
print "done\n";
<STDIN>;
close $_ for @open;
print "gone\n";
