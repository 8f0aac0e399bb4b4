#!/bin/bash -e
echo "Hello from the first script" | sudo tee /etc/first-script >/dev/null
