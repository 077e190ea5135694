#!/bin/sh
# What "docker compose up" runs first, as root, in the project's folder: fedjury enroll, with
# the same flags. Then it gives each folder of secrets to the one user who needs it.
#
# The host's own programs find their logins in the same folders: these belong to the owner of the
# checkout ($OWNER; a file that belongs to them), and to the group of the containers' programs.
set -e

BROKER=1883      # the user and group of Mosquitto's image
PROGRAMS=1000    # those of ours: see the Dockerfile
OWNER=$(stat -c %u "${OWNER_FILE:-/owner}")

fedjury enroll "$@"
if ! grep -q '^listener 1883' secrets/broker/mosquitto.conf; then
    echo "error: secrets/ is an enrolment with TLS, and the containers speak without it; name" \
        "another folder: FEDJURY_SECRETS=./secrets-of-containers docker compose up" >&2
    exit 2
fi

chown "$OWNER" secrets secrets/register.json
chown -R "$BROKER:$BROKER" secrets/broker
for part in aggregator agents people; do
    chown -R "$OWNER:$PROGRAMS" "secrets/$part"
    chmod -R u=rwX,g=rX,o= "secrets/$part"
done
chmod 1777 runs    # Docker makes a missing one as root
