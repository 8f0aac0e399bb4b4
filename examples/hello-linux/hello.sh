#!/bin/sh
# Runs in the guest as the build user, who may use sudo without a password.
set -eu
echo "Hello from $(hostname), built $(date -u +%Y-%m-%dT%H:%MZ)."
sudo install -m 644 /tmp/message.txt /opt/hello/message.txt
rm /tmp/message.txt
printf '#!/bin/sh\ncat /opt/hello/message.txt\n' | sudo tee /usr/local/bin/hello >/dev/null
sudo chmod 755 /usr/local/bin/hello
hello
