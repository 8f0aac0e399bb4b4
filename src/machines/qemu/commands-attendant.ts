/** The guest's end of the commands' port: what runs in the build user's own session, which a resumed guest still has. */
import { COMMANDS_PORT } from './command-line.ts';

/**
 * Each frame, in and out, is a letter, a command's number, a size (both 32 bits, big-endian) and so many bytes.
 *  - in: H, a greeting: its bytes come back as they are, whatever was going on is forgotten; R, run a command: the size of its text, the text, its standard input; K, kill it and
 *    its group; D, close what it has left open;
 *  - out: O and E, what it says; X, the status it was waited for with, in decimal; C, nobody has its output open any more.
 * A command gets what sshd gives it: the session's environment, the user's home, its shell with -c, a group of its own, pipes. Perl, because the shell cannot wait for several at
 * once; it is in every Debian and Ubuntu. It waits at most a quarter of a second for a child's end that came between its looking and its waiting. No single quotes.
 */
const ATTENDANT = `
use strict;
$0 = "kiln-commands";
# Its users’ home is deleted in the end.
chdir("/");
my $device = "";
opendir(my $ports, "/sys/class/virtio-ports") or exit 1;
for (readdir $ports) {
  open(my $file, "<", "/sys/class/virtio-ports/$_/name") or next;
  $device = "/dev/$_" if (readline($file) // "") eq "${COMMANDS_PORT}\\n";
}
open(my $port, "+<", $device) or exit 1;
$SIG{PIPE} = "IGNORE";
$SIG{CHLD} = sub {};
my ($got, $id, $pid, $status, $in, $left, %from) = ("", 0, 0);
sub put {
  my ($bytes) = @_;
  while (length $bytes) {
    my $n = syswrite($port, $bytes) // select(undef, undef, undef, 0.02);
    substr($bytes, 0, $n, "");
  }
}
sub told { my ($type, $bytes) = @_; put(pack("aNN", $type, $id, length $bytes) . $bytes) }
sub forget { ($id, $in, $status, %from) = (0) }
sub failed { told("X", 65280); told("C", "") }
sub run {
  my ($size, $bytes) = unpack("Na*", $_[0]);
  my $command = substr($bytes, 0, $size, "");
  pipe(my $read0, my $write0) && pipe(my $read1, my $write1) && pipe(my $read2, my $write2) or return failed();
  $pid = fork // return failed();
  if (!$pid) {
    setpgrp;
    open(STDIN, "<&", $read0) && open(STDOUT, ">&", $write1) && open(STDERR, ">&", $write2) or exit 255;
    $SIG{$_} = "DEFAULT" for "PIPE", "CHLD";
    delete @ENV{"SHLVL", "OLDPWD", "_"};
    chdir($ENV{HOME}) or chdir("/");
    my $shell = $ENV{SHELL} || "/bin/sh";
    exec { $shell } $shell =~ s{.*/}{}r, "-c", $command;
    exit 127;
  }
  %from = (O => $read1, E => $read2);
  ($in, $left) = ($write0, $bytes) if length $bytes;
}
for (;;) {
  my ($r, $w) = ("", "");
  vec($r, fileno($_), 1) = 1 for $port, values %from;
  vec($w, fileno($in), 1) = 1 if $in;
  ($r, $w) = ("", "") if select($r, $w, undef, $pid ? 0.25 : undef) < 1;
  for my $type (sort keys %from) {
    vec($r, fileno($from{$type}), 1) or next;
    my $n = sysread($from{$type}, my $bytes, 32000) // next;
    $n ? told($type, $bytes) : delete $from{$type};
  }
  if ($in && vec($w, fileno($in), 1)) {
    substr($left, 0, syswrite($in, $left, 4096) // length($left), "");
    undef $in if !length $left;
  }
  for (my $ended; ($ended = waitpid(-1, 1)) > 0;) {
    $ended == $pid or next;
    ($status, $pid) = ($?, 0);
    undef $in;
    told("X", $status);
  }
  if (defined $status && !%from) {
    told("C", "");
    undef $status;
  }
  vec($r, fileno($port), 1) or next;
  # While nobody is on the other end, reads come back empty.
  sysread($port, $got, 65536, length $got) or select(undef, undef, undef, 0.2);
  while (length $got >= 9) {
    my ($type, $to, $size) = unpack("aNN", $got);
    last if length $got < 9 + $size;
    my $bytes = substr(substr($got, 0, 9 + $size, ""), 9);
    if ($type eq "H") { forget(); put($bytes) }
    elsif ($type eq "R") { forget(); $id = $to; run($bytes) }
    elsif ($to != $id) { next }
    elsif ($type eq "K") { kill("KILL", -$pid) if $pid }
    elsif ($type eq "D") { forget() }
  }
}
`;

/** Lets the build user open the port. For root's sh. */
export const ALLOW_COMMANDS = `for port in /sys/class/virtio-ports/*; do
  read -r name < "$port/name"
  [ "$name" != ${COMMANDS_PORT} ] || chown "$SUDO_UID" "/dev/\${port##*/}"
done`;

/** Starts it in the session that runs this. Where there is no perl, or it runs already, nothing happens. */
export const START_COMMANDS = `{ command -v perl && setsid -f perl -e '${ATTENDANT}'; :; } </dev/null >/dev/null 2>&1`;
