package deploy

// VolumeID is the id of what an operation makes, for tests that make what one left.
var VolumeID = volumeID
