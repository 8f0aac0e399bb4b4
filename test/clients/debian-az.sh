#!/usr/bin/env bash
# What az of Debian 12 cannot do, its libraries do not fit it or it is too old: roles, the marketplace, images, blobs by an account's host, versions of outputs.
# In the working directory: disk.vhd. Shows what it made there, as JSON.
set -euo pipefail

group=newer
subscription=$(az account show --query id --output tsv)
scope=/subscriptions/$subscription/resourceGroups/$group
az group create --name $group --location westus2
az identity create --resource-group $group --name builder
clientId=$(az identity show --resource-group $group --name builder --query clientId --output tsv)
principalId=$(az identity show --resource-group $group --name builder --query principalId --output tsv)

# Twice is no error: az swallows the conflict and shows the one that is there.
az role assignment create --assignee "$clientId" --role Contributor --scope "$scope"
az role assignment create --assignee "$clientId" --role Contributor --scope "$scope"
az role assignment create --assignee-object-id "$principalId" --role 'Storage Blob Data Reader' --scope "$scope"
az role assignment list --assignee "$clientId" --scope "$scope" --query '[].roleDefinitionName' > roles.json

az vm image list --all --location westus2 --publisher Debian --offer debian-12 --sku 12-gen2 > images.json
az vm image show --location westus2 --urn Debian:debian-12:12-gen2:latest > image.json

# Blobs by the host of their account, which only .blob.core. tells the Python SDK.
account=newer$(date +%s)
az storage account create --resource-group $group --name "$account" --location westus2 --sku Standard_LRS
az storage container create --account-name "$account" --name vhds
az storage blob upload --account-name "$account" --container-name vhds --name disk.vhd --file disk.vhd --type page
az storage blob upload --account-name "$account" --container-name vhds --name script.sh --file "$0" --auth-mode login
url=$(az storage blob generate-sas --account-name "$account" --container-name vhds --name script.sh --permissions r --as-user --auth-mode login \
  --expiry "$(date --utc --date '+1 day' +%Y-%m-%dT%H:%MZ)" --full-uri --output tsv)
az storage blob download --blob-url "$url" --file script.sh
cmp "$0" script.sh

# From a VHD to a managed image to a version of a gallery's image.
vhd=$(az storage account show --resource-group $group --name "$account" --query primaryEndpoints.blob --output tsv)vhds/disk.vhd
az image create --resource-group $group --name base --source "$vhd" --os-type Linux --location westus2 --hyper-v-generation V2
az sig create --resource-group $group --gallery-name gallery
az sig image-definition create --resource-group $group --gallery-name gallery --gallery-image-definition base \
  --publisher p --offer o --sku s --os-type Linux --hyper-v-generation V2 --features SecurityType=Standard
az sig image-version create --resource-group $group --gallery-name gallery --gallery-image-definition base --gallery-image-version 1.0.0 \
  --managed-image "$scope/providers/Microsoft.Compute/images/base" --target-regions westus2 eastus=2
az sig image-version show --resource-group $group --gallery-name gallery --gallery-image-definition base --gallery-image-version 1.0.0 \
  --expand ReplicationStatus > version.json

# A template put together piece by piece, sent at the end.
template=(--resource-group $group --name pieces)
az image builder create "${template[@]}" --image-source Debian:debian-12:12-gen2:latest --identity builder --defer
az image builder customizer add "${template[@]}" --customizer-name hello --type shell --inline-script 'echo hello' --defer
az image builder output add "${template[@]}" --gallery-name gallery --gallery-image-definition base --gallery-replication-regions westus2 --defer
az image builder output versioning set "${template[@]}" --output-name base --scheme Latest --major 1 --defer
az image builder validator add "${template[@]}" --continue-distribute-on-failure true --defer
az image builder error-handler add "${template[@]}" --on-customizer-error abort --on-validation-error cleanup --defer
az image builder update "${template[@]}"
az image builder show "${template[@]}" > template.json

az network vnet create --resource-group $group --name net --subnet-name builds
az network vnet subnet update --resource-group $group --vnet-name net --name builds --disable-private-link-service-network-policies true > subnet.json

az group delete --name $group --yes
az group exists --name $group > exists.json
