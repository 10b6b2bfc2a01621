# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # what the scenarios read: code
#
# Sourced by the scenarios, inside the lab: boots guests with $HUM and says PASS or FAIL for each.
#
#   begin NAME              a new guest; its files go to $guest
#   boot SECONDS ARG...     hum run ARG..., ended after so many seconds; its stdin is ours. Sets $code and makes
#                           $guest/{out,err,console,record}
#   launch COMMAND...       starts it in the background, with stdin from `type`, stdout and stderr as above. Sets $hum
#   await SECONDS TEXT      waits until the output has TEXT
#   type TEXT               types a line
#   finish SECONDS          waits for what was launched; sets $code
#   same WHAT GOT WANTED    both texts are equal, or the guest has failed
#   holds WHAT COMMAND...   the command succeeds, or the guest has failed
#   record KEY              prints that key of the guest's end record
#   end                     PASS or FAIL, with what was wrong
#   all_passed              the scenario's last line: its exit code

set -uo pipefail

: "${HUM:?the hum program}"
scenario_folder=$(mktemp -d /tmp/scenario.XXXXXX)
exec {never}<> <(:) # for pauses without a process: those are slow to start in the lab
failed_guests=0
guest_count=0

begin() {
  name=$1
  guest=$scenario_folder/$((guest_count += 1))
  mkdir "$guest"
  problems=()
  code=
  started=$SECONDS
}

boot() {
  local seconds=$1
  shift
  timeout -k 5 "$seconds" "$HUM" run --record "$guest/record" --console "file=$guest/console" "$@" \
    >"$guest/out" 2>"$guest/err"
  code=$?
}

launch() {
  mkfifo "$guest/in"
  "$@" <"$guest/in" >"$guest/out" 2>"$guest/err" &
  hum=$!
  exec {typed}>"$guest/in"
}

await() {
  local end=$((SECONDS + $1))
  until [[ $(tr -d '\0' <"$guest/out") == *"$2"* ]]; do
    if ((SECONDS >= end)) || ! kill -0 "$hum" 2>/dev/null; then
      problems+=("no '$2' within $1 s")
      return 1
    fi
    read -rt 0.3 -u "$never"
  done
  true
}

type() {
  printf '%s\n' "$1" >&"$typed"
}

finish() {
  local end=$((SECONDS + $1))
  while kill -0 "$hum" 2>/dev/null; do
    if ((SECONDS >= end)); then
      problems+=("not at its end after $1 s")
      kill -KILL "$hum"
    fi
    read -rt 0.3 -u "$never"
  done
  wait "$hum"
  code=$?
  exec {typed}>&-
}

same() {
  [[ $2 == "$3" ]] || problems+=("$1: '$2', not '$3'")
}

holds() {
  local what=$1
  shift
  "$@" >"$guest/held" 2>&1 || problems+=("$what")
}

record() {
  sed -nE "s/^ *\"$1\": \"?([^\"]*[^\",])\"?,?\$/\\1/p" "$guest/record"
}

end() {
  if ((${#problems[@]} == 0)); then
    printf 'PASS %s (%s s)\n' "$name" "$((SECONDS - started))"
  else
    failed_guests=$((failed_guests + 1))
    printf 'FAIL %s (%s s)\n' "$name" "$((SECONDS - started))"
    printf '  wrong: %s\n' "${problems[@]}"
    local file
    for file in err console record out held; do
      [[ -s $guest/$file ]] || continue
      printf '  --- the last of %s:\n' "$file"
      tail -c 3000 "$guest/$file" | tr -cd '[:print:]\n' | tail -n 25 | sed 's/^/  | /'
    done
  fi
  rm -rf "$guest"
}

all_passed() {
  rm -rf "$scenario_folder"
  printf '%s guests, %s failed\n' "$guest_count" "$failed_guests"
  ((failed_guests == 0))
}
