#!/bin/sh
# Makes the files of this folder anew, with OpenSSL 3 and OpenSSH, from the keys beside it where there is one.
set -eu
cd "$(dirname "$0")"
q() { openssl "$@" 2>/dev/null; }

# Ways to write a key.
sed 's/$/ \t/' ../p256.pem > blanks-at-line-ends.pem
sed 's/^/   /' ../p256.pem > indented.pem
q req -x509 -new -key ../rsa.pem -subj "/CN=countersign test" -days 36500 -out certificate.pem
cat certificate.pem ../rsa.pem > certificate-first.pem
cat ../rsa.pem certificate.pem > certificate-last.pem
q ecparam -name prime256v1 -out parameters.pem
q ec -in ../p256.pem | cat parameters.pem - > parameters-first.pem
q ec -in ../p256.pem | cat - parameters.pem > parameters-last.pem
q pkcs12 -export -inkey ../rsa.pem -in certificate.pem -name "Countersign-Schlüssel" -passout pass:x -out bag.p12
q pkcs12 -in bag.p12 -nodes -passin pass:x -out bag-attributes.pem
rm bag.p12
sed 's/$/\r/' ../ed25519.pem > crlf.pem
tr '\n' '\r' < ../ed25519.pem > cr.pem
printf '\357\273\277' | cat - ../ed25519.pem > byte-order-mark.pem
printf '%s' "$(cat ../ed25519.pem)" > no-line-break-at-end.pem
printf '%s\n%s\n%s\n' "$(sed -n 1p ../rsa.pem)" "$(sed '/---/d' ../rsa.pem | tr -d '\n')" "$(sed -n '$p' ../rsa.pem)" > one-long-line.pem
{ sed -n 1p ../rsa.pem; sed '/---/d' ../rsa.pem | tr -d '\n' | fold -w 76; echo; sed -n '$p' ../rsa.pem; } > wide.pem
sed G ../p256.pem > blank-lines.pem
{ sed -n 1p ../rsa.pkcs1.pem; printf 'Comment: made by another program\n\n'; sed 1d ../rsa.pkcs1.pem; } > headers.pem
cat ../ed25519.pem ../ed25519.pub.pem > private-then-public.pem
sed 's/PRIVATE/RSA PRIVATE/' ../rsa.pem > pkcs8-labelled-pkcs1.pem

# Keys of other kinds, each private and public, and what else is taken for a key.
for kind in ED448 X448; do
    name=$(echo "$kind" | tr A-Z a-z)
    q genpkey -algorithm "$kind" -out "$name.pem" && q pkey -in "$name.pem" -pubout -out "$name.pub.pem"
done
for curve in prime192v1 secp224r1 brainpoolP256r1; do
    q genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$curve" -out "$curve.pem"
    q pkey -in "$curve.pem" -pubout -out "$curve.pub.pem"
done
q ec -in prime192v1.pem -out prime192v1.sec1.pem
q ec -in ../p256.pem -param_enc explicit -out explicit.sec1.pem
q pkey -in ../p256.pem -ec_param_enc explicit -out explicit.pem
q genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -out dsa.parameters.pem
q genpkey -paramfile dsa.parameters.pem -out dsa.pem && q pkey -in dsa.pem -pubout -out dsa.pub.pem
q pkey -in dsa.pem -traditional -out dsa.traditional.pem
rm dsa.parameters.pem
q genpkey -algorithm DH -pkeyopt group:ffdhe2048 -out dh.pem
q pkey -in ../rsa-1024.pem -traditional -out rsa-1024.pkcs1.pem
q pkey -in ../rsa-1024.pem -pubout -out rsa-1024.pub.pem
q pkey -in ../rsa-pss.pem -pubout -out rsa-pss.pub.pem
q pkey -in ../rsa.pem -aes256 -passout pass:x -out encrypted.pem
q pkey -in ../rsa.pem -traditional -aes256 -passout pass:x -out encrypted.traditional.pem
q req -new -key ../rsa.pem -subj "/CN=countersign test" -out request.pem
cp ../rsa.pem openssh.pem && chmod 600 openssh.pem && ssh-keygen -q -p -N "" -f openssh.pem > /dev/null
ssh-keygen -y -f openssh.pem > openssh.pub
cat ../ed25519.pem ../p256.pem > two-keys.pem
