#!/bin/bash
# Downloads COCO 2017 and unpacks it: FOLDER/{annotations,train2017,val2017}, as detr's recipes expect it.
#
#     fetch-coco.sh [FOLDER]                       the default is /coco
#     COCO_PARTS="val2017 annotations" fetch-coco.sh coco
#
# It can be stopped and started again at any moment. A download goes on where it ended; an archive counts when its
# size and its SHA-256 are those of archives.tsv; it is unpacked beside its place and renamed when it is whole, so
# train2017 is there with all of its pictures or not at all. What is done is not done again.
#
# Settings, all of them environment variables:
#   COCO_PARTS      names of archives.tsv; train2017 val2017 annotations by default, and there is panoptic
#   COCO_MIRROR     the address that the archives are below
#   COCO_ARCHIVES   another archives.tsv, for a mirror with other files
#   COCO_BACKBONE   1 fetches torchvision's ResNet-50, too, which the published recipes start from
#   COCO_KEEP       1 keeps the archives, in FOLDER/.archives
#   COCO_TRIES      how often a download that gets no further is tried again; 10 by default
#   COCO_PAUSE      seconds between them; 10 by default
#
# Exit codes: 0 all is there, 2 a wrong setting, 3 a file that is not what it should be, 4 the network or the disk.
set -euo pipefail

readonly folder=${1:-/coco}
readonly mirror=${COCO_MIRROR:-http://images.cocodataset.org}
readonly table=${COCO_ARCHIVES:-$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/archives.tsv}
readonly tries=${COCO_TRIES:-10}
readonly pause=${COCO_PAUSE:-10}
# torchvision puts the first eight digits of a file's SHA-256 into its name, and checks them itself.
readonly backbone=resnet50-0676ba61.pth
readonly backbone_url=https://download.pytorch.org/models/$backbone
readonly backbone_sum=0676ba61
read -r -a parts <<<"${COCO_PARTS:-train2017 val2017 annotations}"

say() { echo "$*" >&2; }

# Ends the script: exit code, message, hint.
fail() {
    say "error: $2"
    say "hint: $3"
    exit "$1"
}

size_of() { if [[ -e $1 ]]; then stat -c %s -- "$1"; else echo 0; fi; }

# Prints the line of an archive.
row() { awk -F '\t' -v name="$1" '$1 == name' "$table"; }

# Downloads to a file that may be there in part: address, file, size (0 where nobody knows it).
download() {
    local url=$1 file=$2 size=$3 had have code best failures=0
    best=$(size_of "$file")
    while true; do
        had=$(size_of "$file")
        if [[ $size -gt 0 && $had -eq $size ]]; then
            return 0
        fi
        if [[ $size -gt 0 && $had -gt $size ]]; then
            say "$file: $had bytes are more than $size; it starts anew"
            rm -f -- "$file"
            had=0
        fi
        if [[ $had -gt 0 ]]; then say "$url: goes on at byte $had"; fi
        # A connection that carries less than a kilobyte a second for a minute is dead.
        code=0
        curl --fail --location --silent --show-error --connect-timeout 30 --speed-limit 1024 --speed-time 60 \
            --continue-at "$had" --output "$file" -- "$url" || code=$?
        have=$(size_of "$file")
        case $code in
        0)
            if [[ $size -eq 0 || $have -eq $size ]]; then return 0; fi
            if [[ $have -gt $size || $have -eq $had ]]; then
                rm -f -- "$file"
                fail 3 "$url has $have bytes, not $size" "is COCO_MIRROR right? COCO_ARCHIVES names another table"
            fi
            ;;
        23) fail 4 "$file cannot be written" "is the disk full? df -h $folder" ;;
        33) # The server knows no ranges.
            say "$url: cannot go on in the middle; it starts anew"
            rm -f -- "$file"
            ;;
        esac
        # More than ever before is progress. A server without ranges that breaks off again and again makes none.
        if [[ $have -gt $best ]]; then
            best=$have
            failures=0
        else
            failures=$((failures + 1))
        fi
        if [[ $failures -ge $tries ]]; then
            fail 4 "$url: no byte more in $tries tries" "start it again later; what is there is kept"
        fi
        sleep "$pause"
    done
}

# Downloads an archive and checks it: name, address, size, sum. Leaves $archives/NAME.zip.
fetch() {
    local name=$1 url=$2 size=$3 sum=$4 part=$archives/$1.zip.part found
    if [[ -e $archives/$name.zip ]]; then
        return 0
    fi
    download "$url" "$part" "$size"
    say "$name: checks $size bytes"
    found=$(sha256sum <"$part")
    found=${found%% *}
    if [[ $found != "$sum" ]]; then
        # Not to be resumed: nobody knows which byte is wrong.
        rm -f -- "$part"
        fail 3 "$url: SHA-256 is $found, not $sum" \
            "start it again; if it comes again, the mirror has another file, and COCO_ARCHIVES names a table with its sum"
    fi
    mv -- "$part" "$archives/$name.zip"
}

# Puts a folder that is whole in its place. What is there, of an earlier time, goes first, but by a rename, too.
replace() {
    local new=$1 place=$2 room=$3
    if [[ -e $place ]]; then mv -- "$place" "$(mktemp -d -p "$room" .old-XXXXXX)"; fi
    mv -- "$new" "$place"
}

# Unpacks an archive beside its place and renames: name, sum.
unpack() {
    local name=$1 sum=$2 room=$folder/.unpacking-$1 entry
    rm -rf -- "$room"
    mkdir -- "$room"
    say "$name: unpacks"
    if ! unzip -q -o "$archives/$name.zip" -d "$room"; then
        rm -rf -- "$room"
        fail 4 "$name cannot be unpacked" "is the disk full? df -h $folder"
    fi
    # What macOS puts beside the files of an archive.
    rm -rf -- "$room/__MACOSX"
    # The panoptic archive has archives of masks in it.
    if [[ $name == panoptic ]]; then
        for entry in train2017 val2017; do
            unzip -q -o "$room/annotations/panoptic_$entry.zip" "panoptic_$entry/*" -d "$room/annotations"
            rm -- "$room/annotations/panoptic_$entry.zip"
        done
    fi
    # Renamed only after it is on the disk: a loss of power must not leave empty pictures.
    sync -f "$room"
    for entry in "$room"/* "$room"/annotations/*; do
        case ${entry#"$room/"} in
        # Two archives share this folder, so what is in it moves one by one.
        annotations) mkdir -p -- "$folder/annotations" ;;
        # Nothing is in it.
        'annotations/*') ;;
        *) replace "$entry" "$folder/${entry#"$room/"}" "$room" ;;
        esac
    done
    sync -f "$folder"
    echo "$sum" >"$folder/.done-$name"
}

# Removes what an archive needed on the way.
sweep() {
    rm -rf -- "$folder/.unpacking-$1"
    if [[ ${COCO_KEEP:-0} != 1 ]]; then rm -f -- "$archives/$1.zip"; fi
}

for number in "$tries" "$pause"; do
    if [[ ! $number =~ ^[0-9]+$ ]]; then
        fail 2 "COCO_TRIES and COCO_PAUSE are whole numbers, not $number" "leave them out"
    fi
done
for program in curl unzip sha256sum flock awk; do
    command -v "$program" >/dev/null || fail 2 "$program is not installed" "apt-get install curl unzip"
done
[[ -r $table ]] || fail 2 "$table cannot be read" "COCO_ARCHIVES names a table of archives"
for name in ${parts[@]+"${parts[@]}"}; do
    if [[ $(row "$name" | wc -l) -ne 1 || ! $(row "$name") =~ ^[^$'\t']+$'\t'[^$'\t']+$'\t'[0-9]+$'\t'[0-9a-f]{64}$ ]]; then
        fail 2 "COCO_PARTS: $name has no line with an address, a size and a SHA-256 in $table" \
            "there are $(awk -F '\t' '!/^#/ { print $1 }' "$table" | paste -sd ' ')"
    fi
done

readonly archives=$folder/.archives
mkdir -p -- "$archives" || fail 4 "$folder cannot be written" "which user owns the volume?"
exec 9>"$folder/.lock"
# One that was just killed may hold the lock for a moment.
flock --timeout 5 9 || fail 4 "another fetch-coco.sh works in $folder" "wait for it"

needed=0
for name in ${parts[@]+"${parts[@]}"}; do
    IFS=$'\t' read -r _ _ size sum < <(row "$name")
    if [[ $(cat -- "$folder/.done-$name" 2>/dev/null) != "$sum" ]]; then
        # The archive, less what is there of it, and its contents, which are hardly larger.
        needed=$((needed + 2 * size - $(size_of "$archives/$name.zip.part") - $(size_of "$archives/$name.zip")))
    fi
done
free=$(($(df --output=avail -B1 -- "$folder" | tail -n 1)))
if [[ $needed -gt $free ]]; then
    fail 4 "$folder has $((free / 1000000)) MB, and $((needed / 1000000)) MB are needed" \
        "give it a larger volume, or fewer COCO_PARTS at a time"
fi

for name in ${parts[@]+"${parts[@]}"}; do
    IFS=$'\t' read -r _ path size sum < <(row "$name")
    if [[ $(cat -- "$folder/.done-$name" 2>/dev/null) == "$sum" ]]; then
        sweep "$name"
        say "$name: is there"
        continue
    fi
    fetch "$name" "$mirror/$path" "$size" "$sum"
    unpack "$name" "$sum"
    sweep "$name"
    say "$name: done"
done

if [[ ${COCO_BACKBONE:-0} == 1 && ! -e $folder/$backbone ]]; then
    # Its size is not published, so nobody could tell whether a part of an earlier time is all of it.
    rm -f -- "$archives/$backbone.part"
    download "$backbone_url" "$archives/$backbone.part" 0
    found=$(sha256sum <"$archives/$backbone.part")
    if [[ ${found:0:8} != "$backbone_sum" ]]; then
        rm -f -- "$archives/$backbone.part"
        fail 3 "$backbone_url: SHA-256 begins with ${found:0:8}, not $backbone_sum" "start it again"
    fi
    mv -- "$archives/$backbone.part" "$folder/$backbone"
    say "$backbone: done"
fi
say "all is in $folder"
