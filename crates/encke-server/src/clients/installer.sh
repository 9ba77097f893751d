#!/bin/sh
# Installs the backup client of the server below and registers this machine with it.
#   curl -fsSL SERVER/install.sh | sh -s -- --token TOKEN
# Nothing secret is in this file. --help tells what can be said.
set -eu

SERVER=@SERVER@
PRODUCT=@PRODUCT@
PLATFORM=@PLATFORM@
SHA256=@SHA256@
# Line of this file from which on the program follows; empty where it is fetched from the server.
PAYLOAD=@PAYLOAD@

usage() {
  cat <<USAGE
Installs the backup client and registers this machine.

  --token TOKEN        an install token, or ENCKE_INSTALL_TOKEN
  --user NAME          an account's name, or ENCKE_USER; its password in ENCKE_PASSWORD, else it is asked for
  --totp CODE          its one-time code, where the account asks for one
  --lobby              wait until an administrator gives this machine an account
  --server URL         another address of the server than $SERVER, or ENCKE_SERVER
  --prefix FOLDER      where to install: /usr/local for root, else ~/.local; or ENCKE_PREFIX
  --device-name NAME   another name than this machine's own
  --no-filenames       do not let the server's users see file names
  --no-service         do not make the agent a service

Without token, account or lobby the client is installed and nothing more.
USAGE
}

say() {
  printf '%s\n' "$*"
}

fail() {
  printf 'The client was not installed: %s\n' "$*" >&2
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# A form's value.
encode() {
  printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'
}

ask_password() {
  [ -z "${ENCKE_PASSWORD:-}" ] || return 0
  # Standard input may be this script. In a shell of its own, which a terminal that is missing ends.
  if ! (: </dev/tty) 2>/dev/null; then
    fail "give the password of $user in ENCKE_PASSWORD"
  fi
  printf 'Password of %s: ' "$user" >/dev/tty
  stty -echo </dev/tty 2>/dev/null || :
  ENCKE_PASSWORD=
  IFS= read -r ENCKE_PASSWORD </dev/tty || :
  stty echo </dev/tty 2>/dev/null || :
  echo >/dev/tty
  [ -n "$ENCKE_PASSWORD" ] || fail "no password was given"
}

fetch() {
  if [ -n "$PAYLOAD" ]; then
    tail -n "+$PAYLOAD" "$0" | tar -xzO usr/bin/encke >"$new" || fail "this file is damaged"
    return
  fi
  form=
  if [ -n "$token" ]; then
    form="InstallToken=$(encode "$token")"
  elif [ -n "$user" ]; then
    form="Username=$(encode "$user")&Password=$(encode "$ENCKE_PASSWORD")"
  fi
  url=$server/api/encke/v1/client/program
  # Secrets go by standard input or a private file: arguments can be seen by everybody.
  if have curl; then
    printf %s "$form" | curl -fsS --data-binary @- -o "$new" "$url" || fail "$url can not be fetched"
  elif have wget; then
    printf %s "$form" >"$folder/form"
    wget -q --post-file="$folder/form" -O "$new" "$url" || fail "$url can not be fetched"
  else
    fail "neither curl nor wget is here"
  fi
}

sum() {
  if have sha256sum; then
    sha256sum <"$1"
  elif have shasum; then
    shasum -a 256 <"$1"
  elif have openssl; then
    openssl dgst -sha256 -r <"$1"
  else
    fail "nothing here computes SHA-256; install coreutils"
  fi | cut -d ' ' -f 1
}

check() {
  found=$(sum "$new")
  [ "$found" != "$SHA256" ] || return 0
  if [ "$(head -c 1 "$new" 2>/dev/null)" = '{' ]; then
    fail "the server says: $(sed 's/.*"Message":"\([^"]*\)".*/\1/' "$new")"
  fi
  fail "what came is damaged: SHA-256 is $found instead of $SHA256. Try again"
}

register() {
  set -- --server "$server"
  [ -z "$name" ] || set -- "$@" --device-name "$name"
  [ -z "$private" ] || set -- "$@" --no-filenames
  if [ -n "$token" ]; then
    ENCKE_INSTALL_TOKEN=$token "$program" agent register "$@"
  else
    [ -z "$totp" ] || set -- "$@" --totp "$totp"
    ask_password
    ENCKE_PASSWORD=$ENCKE_PASSWORD "$program" agent register --user "$user" "$@"
  fi
}

main() {
  token=${ENCKE_INSTALL_TOKEN:-} user=${ENCKE_USER:-} totp= lobby= name= private= service=yes
  server=${ENCKE_SERVER:-$SERVER} prefix=${ENCKE_PREFIX:-}
  unset ENCKE_INSTALL_TOKEN
  while [ $# -gt 0 ]; do
    case $1 in
      --token | --user | --totp | --server | --prefix | --device-name)
        [ $# -gt 1 ] || fail "$1 wants a value"
        case $1 in
          --token) token=$2 ;;
          --user) user=$2 ;;
          --totp) totp=$2 ;;
          --server) server=$2 ;;
          --prefix) prefix=$2 ;;
          --device-name) name=$2 ;;
        esac
        shift
        ;;
      --lobby) lobby=yes ;;
      --no-filenames) private=yes ;;
      --no-service) service= ;;
      -h | --help)
        usage
        exit
        ;;
      *) fail "'$1' is unknown; --help tells what can be said" ;;
    esac
    shift
  done
  server=${server%/}
  case $server in
    http://* | https://*) ;;
    *) fail "'$server' is not an address such as https://backup.example.org" ;;
  esac

  [ "$(uname -s)" = Linux ] || fail "this client is for Linux"
  case $(uname -m) in
    x86_64 | amd64) here=linux/amd64 ;;
    aarch64 | arm64) here=linux/arm64 ;;
    *) here=linux/$(uname -m) ;;
  esac
  [ "$here" = "$PLATFORM" ] || fail "this server has the client for $PLATFORM alone, and this is $here"

  if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then
      prefix=/usr/local
    else
      prefix=${HOME:?}/.local
    fi
  fi
  mkdir -p "$prefix/bin" "$prefix/share/encke" || fail "$prefix can not be written"
  program=$prefix/bin/encke
  # On the same disk as the program, so that it takes its place at once.
  folder=$(mktemp -d "$prefix/bin/.encke.XXXXXX") || fail "$prefix/bin can not be written"
  trap 'rm -rf "$folder"' EXIT
  trap 'exit 1' HUP INT TERM
  new=$folder/encke

  if [ -x "$program" ] && [ "$(sum "$program")" = "$SHA256" ]; then
    changed=
    say "$program is the server's already."
  else
    changed=yes
    if [ -z "$token" ] && [ -n "$user" ]; then
      ask_password
    fi
    fetch
    check
    chmod 755 "$new"
    told=$("$new" --version 2>&1) || fail "the program does not run here: $told"
    mv -f "$new" "$program"
    say "$PRODUCT is installed as $program."
  fi
  printf '%s\n' "$server" >"$folder/server"
  chmod 644 "$folder/server"
  mv -f "$folder/server" "$prefix/share/encke/server"
  case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) say "$prefix/bin is not in your PATH." ;;
  esac

  if told=$("$program" agent status 2>/dev/null); then
    say "This machine is registered already:"
    say "$told"
  elif [ -n "$token$user" ]; then
    register
  elif [ -z "$lobby" ]; then
    say "Register this machine with: $program agent register --server $server --user NAME"
    exit
  fi
  [ -n "$service" ] || exit 0
  if "$program" agent status >/dev/null 2>&1; then
    set -- agent install
  else
    set -- agent install --lobby "$server"
  fi
  [ -z "$changed" ] || set -- "$@" --restart
  "$program" "$@"
}

main "$@"
exit
