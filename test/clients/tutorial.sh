#!/usr/bin/env bash
# Microsoft's tutorial "set up an automatic image build", from its first line to its last, with an unmodified az. docs/tutorial.md tells the same commands to people.
#
#   files     directory of imageTemplate.json, role.json and trigger.json: examples/automatic-build
#   scripts   URL of the directory from which the template's scripts come; checksum: SHA-256 of second.sh
#   signIn    set: nothing is known of the server but KILN_ENDPOINT, its authority and a principal; else `kiln env` has set az up
#
# What it shows goes into the working directory, as JSON.
set -euo pipefail

# az of Debian 12 (2.45) has no triggers yet, leaves out of a template what its api-version did not have (targetRegions), and its `role assignment` ends before
# it asks the server: its libraries do not fit it. Those steps go by `az rest` and `az resource` there.
case $(az version --query '"azure-cli"' --output tsv) in 2.[0-4][0-9].*) old=yes ;; *) old= ;; esac
echo "az ${old:+before 2.50}"

if [ -n "${signIn:-}" ]; then
  cp "$NODE_EXTRA_CA_CERTS" /usr/local/share/ca-certificates/kiln.crt
  update-ca-certificates
  unset REQUESTS_CA_BUNDLE SSL_CERT_FILE CURL_CA_BUNDLE
  export AZURE_CONFIG_DIR=$PWD/azure
  az cloud register --name Kiln --endpoint-resource-manager "$KILN_ENDPOINT"
  az cloud set --name Kiln
  az login --service-principal --username "$AZURE_CLIENT_ID" --password "$AZURE_CLIENT_SECRET" --tenant "$ARM_TENANT_ID"
fi

# --- What the subscription needs ---

az provider register --namespace Microsoft.VirtualMachineImages
az provider register --namespace Microsoft.KeyVault
az provider register --namespace Microsoft.Compute
az provider register --namespace Microsoft.Storage
az provider register --namespace Microsoft.Network
az provider register --namespace Microsoft.ContainerInstance
az feature register --namespace Microsoft.VirtualMachineImages --name Triggers
az feature show --namespace Microsoft.VirtualMachineImages --name Triggers | grep '"state": "Registered"'
for namespace in VirtualMachineImages KeyVault Compute Storage Network ContainerInstance; do
  az provider show --namespace Microsoft.$namespace --output json | grep '"registrationState": "Registered"'
done

# --- Names ---

resourceGroupName=ibTriggerRG
location=westus2
additionalregion=eastus2
acgName=ibTriggerGallery
imageDefName=ibTriggerImage
imageTemplateName=ibTriggerTemplate
runOutputName=aibTriggerOutput
triggerName=sourceImageTrigger
subscriptionID=$(az account show --query id --output tsv)

# --- A resource group, an identity, and a role of its own for it ---

az group create --name $resourceGroupName --location $location

identityName=ibBuilder$(date +%s)
az identity create --resource-group $resourceGroupName --name $identityName
imgBuilderCliId=$(az identity show --resource-group $resourceGroupName --name $identityName --query clientId --output tsv)
imgBuilderId=/subscriptions/$subscriptionID/resourcegroups/$resourceGroupName/providers/Microsoft.ManagedIdentity/userAssignedIdentities/$identityName

imageRoleDefName="Azure Image Builder Image Def $(date +%s)"
cp "$files/role.json" role.json
sed -i -e "s/<subscriptionID>/$subscriptionID/g" role.json
sed -i -e "s/<rgName>/$resourceGroupName/g" role.json
sed -i -e "s/Azure Image Builder Service Image Creation Role/$imageRoleDefName/g" role.json
az role definition create --role-definition role.json > made-role.json

scope=/subscriptions/$subscriptionID/resourceGroups/$resourceGroupName
if [ -z "$old" ]; then
  az role assignment create --assignee "$imgBuilderCliId" --role "$imageRoleDefName" --scope "$scope" > assignment.json
  az role assignment list --assignee "$imgBuilderCliId" --scope "$scope" > assignments.json
else
  principal=$(az identity show --resource-group $resourceGroupName --name $identityName --query principalId --output tsv)
  role=$(az rest --method get --url "$scope/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01&\$filter=roleName eq '$imageRoleDefName'" --query 'value[0].id' --output tsv)
  az rest --method put --url "$scope/providers/Microsoft.Authorization/roleAssignments/$(cat /proc/sys/kernel/random/uuid)?api-version=2022-04-01" \
    --body "{\"properties\": {\"principalId\": \"$principal\", \"principalType\": \"ServicePrincipal\", \"roleDefinitionId\": \"$role\"}}" > assignment.json
fi

# --- A gallery and an image definition ---

az sig create --resource-group $resourceGroupName --gallery-name $acgName
az sig image-definition create --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName \
  --publisher myIbPublisher --offer myOffer --sku 18.04-LTS --os-type Linux --hyper-v-generation V2

# --- The template ---

cp "$files/imageTemplate.json" imageTemplate.json
sed -i -e "s/<subscriptionID>/$subscriptionID/g" imageTemplate.json
sed -i -e "s/<rgName>/$resourceGroupName/g" imageTemplate.json
sed -i -e "s/<imageDefName>/$imageDefName/g" imageTemplate.json
sed -i -e "s/<galleryName>/$acgName/g" imageTemplate.json
sed -i -e "s/<region1>/$location/g" imageTemplate.json
sed -i -e "s/<region2>/$additionalregion/g" imageTemplate.json
sed -i -e "s/<runOutputName>/$runOutputName/g" imageTemplate.json
sed -i -e "s%<imgBuilderId>%$imgBuilderId%g" imageTemplate.json
sed -i -e "s%<scripts>%$scripts%g" -e "s/<checksum>/$checksum/g" imageTemplate.json
template=$scope/providers/Microsoft.VirtualMachineImages/imageTemplates/$imageTemplateName
if [ -z "$old" ]; then
  az image builder create --resource-group $resourceGroupName --name $imageTemplateName --image-template imageTemplate.json
else
  az rest --method put --url "$template?api-version=2022-07-01" --body @imageTemplate.json
  az image builder wait --resource-group $resourceGroupName --name $imageTemplateName --created --interval 2
fi
az image builder show --resource-group $resourceGroupName --name $imageTemplateName > template.json

# --- The trigger ---

if [ -z "$old" ]; then
  az image builder trigger create --name $triggerName --resource-group $resourceGroupName --image-template-name $imageTemplateName --kind SourceImage
  az image builder trigger show --name $triggerName --image-template-name $imageTemplateName --resource-group $resourceGroupName > trigger.json
  az image builder trigger list --image-template-name $imageTemplateName --resource-group $resourceGroupName > triggers.json
else
  cp "$files/trigger.json" trigger-body.json
  sed -i -e "s/<region1>/$location/g" trigger-body.json
  az resource create --resource-group $resourceGroupName --namespace Microsoft.VirtualMachineImages --parent imageTemplates/$imageTemplateName \
    --resource-type triggers --name $triggerName --is-full-object --properties @trigger-body.json --api-version 2022-07-01
  az resource show --ids $template/triggers/$triggerName --api-version 2022-07-01 --query '{name: name, kind: properties.kind, provisioningState: properties.provisioningState, status: properties.status}' > trigger.json
  az rest --method get --url "$template/triggers?api-version=2022-07-01" --query 'value[].{name: name, kind: properties.kind}' > triggers.json
fi

# --- The first build ---

az image builder run --resource-group $resourceGroupName --name $imageTemplateName
az image builder show --resource-group $resourceGroupName --name $imageTemplateName --query lastRunStatus > last-run.json
az image builder show-runs --resource-group $resourceGroupName --name $imageTemplateName > runs.json
az resource show --ids $template/runOutputs/$runOutputName --api-version 2022-07-01 > output.json

# --- What came out ---

az sig image-version list --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName > versions.json
versionName=$(az sig image-version list --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName --query '[0].name' --output tsv)
az sig image-version show --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName \
  --gallery-image-version "$versionName" --expand ReplicationStatus > version.json

vhdUri=$(az image builder show-runs --resource-group $resourceGroupName --name $imageTemplateName --output-name $runOutputName-vhd --query artifactUri --output tsv)
az storage blob download --blob-url "$vhdUri" --auth-mode login --file image.vhd --no-progress > blob.json

# --- Cleaning up ---

if [ -z "$old" ]; then
  az image builder trigger delete --name $triggerName --image-template-name $imageTemplateName --resource-group $resourceGroupName --yes
else
  az resource delete --ids $template/triggers/$triggerName --api-version 2022-07-01
fi
az image builder delete --resource-group $resourceGroupName --name $imageTemplateName
az image builder list --resource-group $resourceGroupName > templates-left.json

if [ -z "$old" ]; then
  az role assignment delete --assignee "$imgBuilderCliId" --role "$imageRoleDefName" --scope "$scope"
  az role definition delete --name "$imageRoleDefName"
else
  az rest --method delete --url "$(sed -n 's/.*"id": "\(.*roleAssignments[^"]*\)".*/\1/p' assignment.json)?api-version=2022-04-01"
  az rest --method delete --url "$role?api-version=2022-04-01"
fi
az identity delete --ids "$imgBuilderId"

az sig image-version delete --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName --gallery-image-version "$versionName"
az sig image-definition delete --resource-group $resourceGroupName --gallery-name $acgName --gallery-image-definition $imageDefName
az sig delete --resource-group $resourceGroupName --gallery-name $acgName
az group delete --name $resourceGroupName --yes
az group exists --name $resourceGroupName > exists.json
