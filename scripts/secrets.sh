#!/bin/sh
# Makes the secrets that docker-compose.yml hands to the containers, each a file below secrets/. Never changes one that
# is there already: keep a copy of fields_keys elsewhere, since stored passwords cannot be read without it.
set -eu
umask 077

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
folder=$root/secrets
mkdir -p "$folder"

# The folder is closed to others; the files in it are readable, since the containers' users are not this one.
random() {
    head -c "$1" /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'
}

make() {
    if [ -s "$folder/$1" ]; then
        echo "kept   secrets/$1"
        return
    fi
    printf '%s' "$2" >"$folder/$1"
    chmod 444 "$folder/$1"
    echo "made   secrets/$1"
}

make django_key "$(random 48)"
make fields_keys "$(random 32)" # a Fernet key: 32 bytes in URL-safe base64
make database_password "$(random 24)"
make redis_password "$(random 24)"
make admin_password "$(random 12)"
