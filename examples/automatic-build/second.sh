#!/bin/sh -e
# Comes with a checksum: another script at the same URL would end the build.
id -un | sudo tee /etc/second-script >/dev/null
